const main = document.getElementById("docs");
window.SwaggerUIBundle({ domNode: main, url: main.dataset.document, validatorUrl: null });
