// Starts Swagger UI with the document of the API that this page belongs to.
"use strict";

const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark-mode", darkScheme.matches);
followScheme();
darkScheme.addEventListener("change", followScheme);

// What a token says of its owner; null for anything that is no JWT.
function claimsOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

function describeToken(token) {
  const claims = claimsOf(token);
  if (!claims) return "This token cannot be read: it is no JWT.";
  const end = new Date(claims.exp * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  if (claims.exp * 1000 < Date.now()) return `This token expired: ${end}.`;
  return `Signed in as ${claims.user_role} ${claims.user_id} until ${end}.`;
}

// Shows beside the button whose token is sent.
const ButtonWithOwner = (Original, { React, authSelectors }) => (props) => {
  const token = authSelectors.authorized()?.getIn(["token", "value"]);
  return React.createElement(
    React.Fragment,
    null,
    React.createElement("p", { className: "signed-in", role: "status" }, token ? describeToken(token) : ""),
    React.createElement(Original, props),
  );
};

SwaggerUIBundle({
  url: document.currentScript.dataset.document,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: true,
  plugins: [accessibilityPlugin, { wrapComponents: { authorizeBtn: ButtonWithOwner } }],
  requestSnippetsEnabled: true,
  syntaxHighlight: { theme: "tomorrow-night" },
  tryItOutEnabled: true,
  validatorUrl: null,
});
