"""From OAI's files to film and MRI pairs."""
