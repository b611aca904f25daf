// Removes the code from the address before anything else loads. It stays in this tab's storage until it is used.
(() => {
  const given = new URLSearchParams(location.hash.slice(1)).get("code");
  history.replaceState(null, "", location.pathname);
  if (given) sessionStorage.setItem("servease-cache-code", given);
})();
