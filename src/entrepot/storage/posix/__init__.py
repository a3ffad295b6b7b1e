"""File systems as a store: walking, reading, staging, copying and deleting beneath one root directory."""
