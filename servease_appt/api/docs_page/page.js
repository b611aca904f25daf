// Renders /openapi.json and sends requests from it. Text goes in by textContent only, never as HTML.
"use strict";

const source = document.currentScript.dataset.document;
const routes = document.getElementById("routes");
const METHODS = ["get", "post", "put", "patch", "delete"];
const SHOWN_HEADERS = ["x-cache", "server-timing", "etag", "x-total-count", "retry-after", "x-request-id"];

function make(tag, { text, className, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function resolve(api, schema) {
  const { $ref, ...rest } = schema || {};
  return $ref ? { ...api.components.schemas[$ref.split("/").pop()], ...rest } : rest;
}

// A value that may be null has a list of types.
function typeOf(shape) {
  return [shape.type].flat().find((name) => name !== "null") || "";
}

function describe(schema) {
  const parts = [schema.format || typeOf(schema)];
  if (schema.enum) parts.push(schema.enum.join(", "));
  if (schema.maximum !== undefined) parts.push(`${schema.minimum} to ${schema.maximum}`);
  if (schema.default !== undefined) parts.push(`default ${schema.default}`);
  return parts.filter(Boolean).join("; ");
}

function parameterField(api, parameter, id) {
  const schema = resolve(api, parameter.schema);
  const label = make("label", {
    for: id,
    text: `${parameter.name} (${parameter.in}; ${describe(schema)})`,
    className: parameter.required ? "required" : "",
  });
  const input = schema.enum
    ? make("select", { id }, make("option", { value: "", text: "" }), ...schema.enum.map((word) => make("option", { value: word, text: word })))
    : make("input", { id, placeholder: parameter.description || "" });
  if (parameter.required) input.required = true;
  return { label, input };
}

function requestFrom(base, method, path, fields, body) {
  const headers = {};
  const token = document.getElementById("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  const query = new URLSearchParams();
  let address = path;
  for (const { parameter, input } of fields) {
    const value = input.value.trim();
    if (!value) continue;
    if (parameter.in === "path") address = address.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (parameter.in === "header") headers[parameter.name] = value;
    else query.set(parameter.name, value);
  }
  const options = { method: method.toUpperCase(), headers, cache: "no-store", credentials: "omit" };
  if (body) {
    headers["Content-Type"] = "application/json";
    options.body = body.value;
  }
  return [base + address + (query.size ? `?${query}` : ""), options];
}

async function send(target, address, options) {
  const started = performance.now();
  try {
    const answer = await fetch(address, options);
    const text = await answer.text();
    const took = Math.round(performance.now() - started);
    const headers = SHOWN_HEADERS.filter((name) => answer.headers.has(name));
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: shown as it came */ }
    const lines = headers.map((name) => `${name}: ${answer.headers.get(name)}`);
    target.textContent = [`${answer.status} ${answer.statusText} in ${took} ms`, ...lines, "", shown].join("\n");
  } catch (error) {
    target.textContent = `No answer: ${error.message}`;
  }
  target.hidden = false;
}

function routeForm(api, method, path, operation) {
  const prefix = operation.operationId;
  const fields = (operation.parameters || []).map((parameter) => ({
    parameter,
    ...parameterField(api, parameter, `${prefix}-${parameter.in}-${parameter.name}`),
  }));
  const form = make("form", {}, make("p", { text: operation.description, className: "quiet" }));
  for (const { label, input } of fields) form.append(label, input);
  let body = null;
  if (operation.requestBody) {
    const { schema, example } = operation.requestBody.content["application/json"];
    body = make("textarea", { id: `${prefix}-body`, spellcheck: "false" });
    body.value = JSON.stringify(example, null, 2);
    form.append(make("label", { for: body.id, text: "Body (JSON)" }), body, properties(api, schema));
  }
  const button = make("button", { type: "submit", text: "Send" });
  const result = make("pre", { tabindex: "0", "aria-label": "Answer" });
  result.hidden = true;
  form.append(button, result);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    await send(result, ...requestFrom(api.servers[0].url.replace(/\/$/, ""), method, path, fields, body));
    button.disabled = false;
  });
  return form;
}

function properties(api, schema) {
  const shape = resolve(api, schema);
  const rows = Object.entries(shape.properties || {}).map(([name, part]) => {
    const required = (shape.required || []).includes(name);
    const about = [describe(resolve(api, part)), part.description].filter(Boolean).join(". ");
    return make("tr", {}, make("td", { text: name, className: required ? "required" : "" }), make("td", { text: about }));
  });
  return make("table", {}, ...rows);
}

function routeCard(api, method, path, operation) {
  const title = make(
    "summary", {},
    make("b", { text: method.toUpperCase(), className: `method ${method}` }),
    make("code", { text: path }),
    make("span", { text: operation.summary }),
  );
  const card = make("details", {}, title);
  card.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  // A form is built when its card is first opened: forty of them at once are slow on a phone.
  card.addEventListener("toggle", () => {
    if (card.open && card.children.length === 1) card.append(routeForm(api, method, path, operation));
  });
  return card;
}

function render(api) {
  document.getElementById("about").textContent = `${api.info.description} Version ${api.info.version}.`;
  const sections = new Map(api.tags.map(({ name }) => [name, make("section", {}, make("h2", { text: name }))]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      sections.get(item[method].tags[0]).append(routeCard(api, method, path, item[method]));
    }
  }
  routes.replaceChildren(...sections.values());
}

document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const card of routes.querySelectorAll("details")) card.hidden = !card.dataset.words.includes(wanted);
  for (const section of routes.querySelectorAll("section")) {
    section.hidden = !section.querySelector("details:not([hidden])");
  }
});

fetch(source)
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`${answer.status} ${answer.statusText}`))))
  .then(render)
  .catch((error) => { document.getElementById("about").textContent = `The document can't be read: ${error.message}`; });
