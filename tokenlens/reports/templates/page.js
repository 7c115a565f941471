/* The colours of a page's maps: 256 times RGBA. */
const palette = bytes(document.body.dataset.palette);
