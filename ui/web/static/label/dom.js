/** Small helpers that build the page. Text always goes in as text, never as markup. */

const PATHS = {
  play: '<path d="M7 4.5v15l13-7.5z" fill="currentColor" stroke="none"/>',
  pause: '<path d="M8 5v14M16 5v14" stroke-width="4"/>',
  back: '<path d="M18 5v14L9 12zM6 5v14"/>',
  forward: '<path d="M6 5v14l9-7zM18 5v14"/>',
  harm: '<path d="M5 21V4M5 4h12l-2 4 2 4H5"/>',
  broken: '<path d="M3 5h18v14H3zM12 5l-2 5 4 3-3 6"/>',
  mark: '<path d="M12 21s-7-6-7-11a7 7 0 0 1 14 0c0 5-7 11-7 11zM12 7.5v5"/>',
  clean: '<path d="M4 12.5l5 5L20 6.5"/>',
  comment: '<path d="M4 5h16v11H10l-5 4v-4H4z"/>',
  undo: '<path d="M9 5L4 10l5 5M4 10h10a6 6 0 0 1 0 12h-3" transform="translate(0 -2)"/>',
  guide: '<path d="M5 4h10l4 4v12H5zM9 12h6M9 16h6M15 4v4h4"/>',
  help: '<path d="M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 17.5v.1"/><circle cx="12" cy="12" r="9.5"/>',
  leave: '<path d="M14 4H5v16h9M10 12h10M17 8l4 4-4 4"/>',
  eye: '<path d="M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12z"/><circle cx="12" cy="12" r="3"/>',
  close: '<path d="M6 6l12 12M18 6L6 18"/>',
};

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [props] `class`, `onclick` and the like, attributes; null, undefined and false leave one out
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else set(element, name, value);
  }
  element.append(...children.filter((child) => child || child === 0));
  return element;
}

/** Set or remove an attribute; ARIA states want 'true' and 'false' spelled out. */
export function set(element, name, value) {
  if (name.startsWith('aria-') && typeof value === 'boolean') element.setAttribute(name, String(value));
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? '' : String(value));
}

/** Set text only where it changed, so that screen readers and layout are left in peace. */
export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** A drawing of our own, hidden from screen readers. */
export function icon(name) {
  const holder = h('span', { class: 'g-icon', 'aria-hidden': 'true' });
  holder.innerHTML = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"
    stroke-linecap="round" stroke-linejoin="round">${PATHS[name]}</svg>`;
  return holder;
}

/** The cap of a key, shown on buttons; screen readers get it through aria-keyshortcuts. */
export const cap = (key) => h('kbd', { 'aria-hidden': 'true' }, key);

/**
 * A button. A click by mouse or finger gives the focus back, so that the space bar goes on meaning play and pause;
 * whoever came by Tab keeps it.
 */
export function button(props, ...children) {
  const { onclick, ...rest } = props;
  const press = (event) => {
    if (event.detail > 0) event.currentTarget.blur();
    onclick?.(event);
  };
  return h('button', { type: 'button', ...rest, onclick: press }, ...children);
}

/** "1 answer", "3 answers". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;
