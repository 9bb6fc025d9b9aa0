"""Born when read: collectors are asked by those who want to know, off the loop's thread."""
