"""Pure plans of a restore: facts in, decisions out."""
