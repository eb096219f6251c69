"""The whole AWS shape on one machine: a local AWS server, the rendered stacks made in it, and what happens there. See README.md."""
