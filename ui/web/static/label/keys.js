/** Keys: one table for the help dialog, one function from an event to the name of a key. */

const REPEATABLE = new Set([',', '.', '-', '+']);
const CODES = { Comma: ',', Period: '.', Minus: '-', Equal: '+', NumpadAdd: '+', NumpadSubtract: '-', Space: 'space' };
const NAMES = { '=': '+', '+': '+', '-': '-', ',': ',', '.': '.', '?': '?', ' ': 'space' };
const TYPING = 'textarea, select, input:not([type=range]):not([type=checkbox]):not([type=radio]), [contenteditable]';
const OWN_KEYS = {
  'button, a, summary': new Set(['space', 'enter']),
  'input[type=range]': new Set(['arrowleft', 'arrowright', 'home', 'end']),
};

/** What the help dialog lists: [group, [[keys, words] …]]. */
export function helpFor(numClips) {
  const answers = {
    1: [['1', 'Pass'], ['2', 'Fail'], ['0', 'Unsure']],
    2: [['1', 'A is better'], ['2', 'B is better'], ['0', 'Tie'], ['9', 'Both bad']],
  }[numClips] ?? [
    [`1 – ${numClips}`, 'The next best clip'], ['0', 'The next clip is equal to the last'], ['⌫', 'Take the last one back'],
  ];
  return [
    ['Answer', [...answers, ['S', 'Skip this question'], ['⇧ S', 'Skip all that is left'],
      ['U', 'Undo, also after the pair is gone'], ['↵', 'Keep an earlier pair as it was']]],
    ['Watch', [['Space', 'Play or pause'], [', .', 'One frame back, one forward'], ['− +', 'Slower, faster'],
      ['← →', 'Choose the active clip'], ['V', 'Show or blur the clips']]],
    ['Report', [['H', 'The active clip shows harm'], ['X', 'The active clip is broken'], ['B', 'It stops making sense here'],
      ['N', 'It makes sense to the end'], ['C', 'Comment on this task']]],
    ['Page', [['G', 'Guideline'], ['?', 'This help']]],
  ];
}

/**
 * The name of a key, whatever the layout: digits need no shift on a French keyboard, letters work on a Cyrillic one.
 * @param {KeyboardEvent} event
 */
export function keyName(event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (event.key in NAMES) return NAMES[event.key];
  if (digit && !/^[a-z]$/i.test(event.key)) return digit[1];
  if (/^[a-z]$/i.test(event.key)) return (event.shiftKey ? 'shift+' : '') + event.key.toLowerCase();
  const letter = /^Key([A-Z])$/.exec(event.code);
  if (letter) return (event.shiftKey ? 'shift+' : '') + letter[1].toLowerCase();
  return CODES[event.code] ?? event.key.toLowerCase();
}

/**
 * Listen for keys on the whole page.
 * @param {Record<string, () => void>} actions by the name of the key
 * @param {() => boolean} isOff true while single keys mean nothing (a dialog is open, or the labeler switched them off)
 */
export function bindKeys(actions, isOff) {
  document.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isOff()) return;
    const name = keyName(event);
    const action = actions[name];
    if (!action || (event.repeat && !REPEATABLE.has(name)) || isMeantElsewhere(event.target, name)) return;
    event.preventDefault();
    action();
  });
}

function isMeantElsewhere(target, name) {
  if (!(target instanceof Element)) return false;
  if (target.closest(TYPING)) return true;
  return Object.entries(OWN_KEYS).some(([selector, keys]) => keys.has(name) && target.closest(selector));
}
