// Before anything else is loaded the code leaves the address; it stays in this tab alone, until it is used.
(() => {
  const given = new URLSearchParams(location.hash.slice(1)).get("code");
  history.replaceState(null, "", location.pathname);
  if (given) sessionStorage.setItem("servease-cache-code", given);
})();
