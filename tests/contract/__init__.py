"""The HTTP API as a contract, checked by tools that only read the app's OpenAPI document."""
