"""The page of cfdiff report: templates and what fills them."""
