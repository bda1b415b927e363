"""Small experiments beside published findings: `python -m experiments --help`, results in docs/findings.md."""
