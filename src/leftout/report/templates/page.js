// What all parts share, the theme, files to take along, and panels that open where a link leads.
// Every text reaches the page as textContent: names are never markup.
"use strict";
const $ = (id) => document.getElementById(id);
const pageData = JSON.parse($("page-data").textContent);

function make(tag, { className, text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter(Boolean));
  return element;
}

// A file made in the page: nothing is loaded for it, and nothing is sent.
function download(name, text) {
  const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/plain" })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const files = {}; // what makes a file when it is asked for
for (const [name, text] of Object.entries(pageData.files)) files[name] = () => text;

(() => {
  for (const button of document.querySelectorAll("button[data-file]")) {
    button.hidden = false;
    button.addEventListener("click", () => download(button.dataset.file, files[button.dataset.file]()));
  }

  const open = () => {
    const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    const panel = target && target.querySelector(":scope > details.panel");
    if (!panel || panel.open) return;
    panel.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", open);
  for (const link of document.querySelectorAll('a[href^="#"]')) link.addEventListener("click", () => setTimeout(open));
  open();

  // On paper nothing can be opened.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const panel of closed) panel.open = true;
  });
  addEventListener("afterprint", () => {
    for (const panel of closed) panel.open = false;
  });

  const theme = $("theme");
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const name = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours");
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  theme.hidden = false;
  name();
})();
