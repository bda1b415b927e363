"""Small experiments on published findings: `python -m experiments --help`, results in docs/findings.md."""
