"""Tables, figures and the report page: the papers' values beside ours."""
