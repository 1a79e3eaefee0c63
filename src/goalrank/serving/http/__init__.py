"""HTTP of a server: routes, schemas, access and the server process."""
