"""reports: finished runs as pages, as JUnit XML and Markdown, and as the logs of other tools."""
