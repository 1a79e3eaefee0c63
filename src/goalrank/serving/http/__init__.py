"""HTTP: routes, schemas, access, server process."""
