const main = document.getElementById("docs");
window.SwaggerUIBundle({ domNode: main, url: main.dataset.document, validatorUrl: null });
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
