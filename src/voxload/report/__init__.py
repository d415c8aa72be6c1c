"""Reports of a run: terminal, HTML, JUnit and Markdown, all made from the summary alone."""
