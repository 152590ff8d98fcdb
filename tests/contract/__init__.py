"""The HTTP API as a contract, held by tools that know nothing of the app but its document."""
