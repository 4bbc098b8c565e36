"""The API's description: OpenAPI, the reference, its pages."""
