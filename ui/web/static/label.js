// Gradio puts this file into the page as a classic script (it drops type="module"), so the modules are imported from here.
import('./label/page.js').then(({ start }) => start());
