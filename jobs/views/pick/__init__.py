"""The pick page: a local web server and its page, on which a person prompts the videos of a manifest."""
