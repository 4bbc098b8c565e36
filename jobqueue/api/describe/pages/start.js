// Relative to the page, so that it works behind a proxy that puts a prefix before everything.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // Would send the document to a server elsewhere.
  validatorUrl: null,
});
