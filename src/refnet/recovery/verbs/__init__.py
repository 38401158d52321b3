"""One verb a file: what the commands do, told by values and the two seams."""
