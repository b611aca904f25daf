FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements-runtime.lock ./
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY servease_appt ./servease_appt
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
RUN useradd --system --no-create-home servease
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY wsgi.py gunicorn.conf.py ./
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER servease
EXPOSE 8005
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD ["python", "-c", \
  "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8005/api/v1/health/', timeout=2)"]
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
