# A tag and not a digest: a rebuild then has Debian's and Python's security fixes without a commit here. For builds that
# can be repeated to the byte: docker build --build-arg BASE=python:3.13-slim-trixie@sha256:…
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
WORKDIR /src
COPY requirements-runtime.lock ./
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE sbom.cdx.json ./
COPY servease_appt ./servease_appt
# pip is for building: what runs has none.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps . && /opt/venv/bin/pip uninstall --yes pip

FROM ${BASE}
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY wsgi.py gunicorn.conf.py ./
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, so that Kubernetes can see that it is not root (runAsNonRoot). It owns no file and needs no name.
USER 10001:10001
EXPOSE 8005
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s --retries=3 CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8005/api/v1/health/', timeout=2)"]
CMD ["servease-gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
