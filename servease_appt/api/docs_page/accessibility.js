// Completes what Swagger UI renders with names, heading levels and focusable scroll areas, for screen readers and
// for the keyboard. React leaves attributes alone that it did not set itself.
"use strict";

// [elements, what is done with each]. Each repetition has the same effect.
const CORRECTIONS = [
  ["#servers", label("Server")],
  ["tr[data-param-name] :is(select, input, textarea)", (field) => label(field.closest("tr").dataset.paramName)(field)],
  [".examples-select-element", label("Example")],
  ["textarea.body-param__text", label("Request body")],
  [".close-modal", label("Close")],
  [".modal-ux", asDialog],
  [".information-container", landmark("region", "About this API")],
  [".scheme-container", landmark("region", "Server and token")],
  [".filter-container", landmark("search", "Operations")],
  [".opblock [role=region]", (responses) => label(`Responses of ${nameOf(responses.closest(".opblock"))}`)(responses)],
  // Their texts are their names; the labels say something else.
  [".auth-btn-wrapper .btn, div.copy-to-clipboard", (element) => element.removeAttribute("aria-label")],
  // The page's title is an h1, and what follows begins at h3.
  ["h3, .models h4", level(2)],
  [".opblock h4, .dialog-ux h4", level(3)],
  ["h5, .dialog-ux h6", level(4)],
  // Long lines scroll.
  ["pre", (element) => { element.tabIndex = 0; }],
];

function nameOf(operation) {
  const method = operation.querySelector(".opblock-summary-method").textContent;
  return `${method} ${operation.querySelector("[data-path]").dataset.path}`;
}

function label(text) {
  return (element) => {
    element.ariaLabel = text;
  };
}

function landmark(role, name) {
  return (element) => {
    element.role = role;
    element.ariaLabel = name;
  };
}

function level(number) {
  return (element) => {
    element.ariaLevel = number;
  };
}

// The button that opened the dialog: the focus goes back to it.
let opener = null;
let dialogIsOpen = false;
document.addEventListener("click", ({ target }) => {
  if (!target.closest(".dialog-ux")) opener = target.closest("button");
}, true);

function asDialog(element) {
  if (element.role === "dialog") return;
  dialogIsOpen = true;
  element.role = "dialog";
  element.ariaModal = "true";
  element.ariaLabel = "Authorization";
  (element.querySelector("input") ?? element.querySelector("button")).focus();
}

function correct() {
  for (const [selector, change] of CORRECTIONS) document.querySelectorAll(selector).forEach(change);
  if (dialogIsOpen && !document.querySelector(".modal-ux")) {
    dialogIsOpen = false;
    opener?.focus();
  }
}

// A link inside a button can't be reached. Opening an operation puts the same address into the address bar.
const PathWithoutLink = (Original, { React }) => ({ operationProps }) => {
  const { deprecated, path } = operationProps.toObject();
  const parts = path.split(/(?=\/)/g).flatMap((part, i) => (i ? [React.createElement("wbr", { key: i }), part] : [part]));
  const className = deprecated ? "opblock-summary-path__deprecated" : "opblock-summary-path";
  return React.createElement("span", { className, "data-path": path }, parts);
};

// A plugin of Swagger UI.
window.accessibilityPlugin = () => ({
  wrapComponents: { OperationSummaryPath: PathWithoutLink },
  afterLoad: () => new MutationObserver(correct).observe(document.body, { childList: true, characterData: true, subtree: true }),
});
