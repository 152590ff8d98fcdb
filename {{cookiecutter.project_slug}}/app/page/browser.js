// Tells users of an old browser to update it. Such a browser reads this file, so it is kept simple.
(() => {
  var isSupported =
    "rawJSON" in JSON &&
    "parse" in URL &&
    "any" in AbortSignal &&
    "difference" in Set.prototype &&
    CSS.supports("color", "light-dark(red, blue)");
  if (isSupported) return;
  var main = document.getElementById("main");
  main.className += " unsupported";
  main.textContent =
    "This page needs a newer browser: Chrome or Edge 126, Firefox 135, Safari 18.4, or later.";
})();
