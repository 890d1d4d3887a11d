"""The editor that translate, bag, tune and doctor share: roles, editor, ladder, verdicts."""
