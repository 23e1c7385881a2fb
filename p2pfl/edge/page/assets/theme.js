// Light or dark, before anything is drawn: this small script blocks, the modules do not.
"use strict";
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  // a browser that keeps nothing throws here; then the choice lasts as long as the page
  function remembered() {
    try {
      return localStorage.getItem("p2pfl-theme");
    } catch {
      return null;
    }
  }

  let wish = ["light", "dark"].includes(remembered()) ? remembered() : "auto";

  function apply() {
    root.dataset.theme = wish === "auto" ? (system.matches ? "dark" : "light") : wish;
    root.dataset.wish = wish;
    dispatchEvent(new Event("theme"));
  }

  addEventListener("theme-next", () => {
    wish = { auto: "light", light: "dark", dark: "auto" }[wish];
    try {
      localStorage.setItem("p2pfl-theme", wish);
    } catch {
      // see above
    }
    apply();
  });
  system.addEventListener("change", apply);
  apply();
})();
