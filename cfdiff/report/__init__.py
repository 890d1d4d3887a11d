"""The HTML report: rows and pictures of a result, small SVG plots, and the page that holds them."""
