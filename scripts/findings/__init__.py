"""Small experiments beside published findings: `python -m scripts.findings --help`, results in docs/findings.md."""
