"""AlterNet."""
