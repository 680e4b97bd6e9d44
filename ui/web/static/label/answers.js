/** What a labeler says about one task. Plain data and functions; nothing here touches the page. */

import { makeId } from './api.js';

export const LETTERS = ['A', 'B', 'C', 'D'];

/** Where a rollout stops making sense: [value, words]. */
export const BREAK_CATEGORIES = [
  ['physics', 'Impossible physics'],
  ['object', 'Object appears, vanishes or melts'],
  ['body', 'Body, hand or robot deforms'],
  ['action', 'Does something other than asked'],
  ['image', 'Picture flickers or breaks up'],
  ['other', 'Something else'],
];

export const SEVERITIES = [
  [1, 'Slight'],
  [2, 'Clear'],
  [3, 'Severe'],
];

/**
 * @typedef {object} Task one piece of work, as the server leases it; clips from left to right
 * @property {string} lease_id
 * @property {string} expires_at
 * @property {string} task_text
 * @property {string} context_text
 * @property {boolean} warn
 * @property {{name: string, question: string}[]} axes
 * @property {{url: string, fps_hz: ?number, num_frames: ?number, width: ?number, height: ?number}[]} clips
 *
 * @typedef {{position: number, time_s: ?number, frame_idx: ?number, category: string, severity: ?number, none: boolean}} Break
 * @typedef {{choice?: string, order?: number[][], response_time_s: number}} Answer
 *
 * @typedef {object} Draft
 * @property {Task} task
 * @property {(Answer|null)[]} answers one per axis
 * @property {number} axisIdx the axis that is being asked
 * @property {number[]} recent axes in the order in which they were answered
 * @property {number[][]} order ranking so far, best first, inner lists are ties
 * @property {boolean} tieNext the next clip is equal to the last one placed
 * @property {Break[]} breaks
 * @property {string} comment
 * @property {{harm: boolean[], broken: boolean[]}} flags
 * @property {string} sent what was last submitted, empty before the first time
 */

/** @returns {Draft} */
export function makeDraft(task) {
  const none = () => task.clips.map(() => false);
  return {
    task,
    answers: task.axes.map(() => null),
    axisIdx: 0,
    recent: [],
    order: [],
    tieNext: false,
    breaks: [],
    comment: '',
    flags: { harm: none(), broken: none() },
    sent: '',
  };
}

/** The answers a task offers: value, key, words and which clip they favour (for colour and place). */
export function choicesOf(numClips) {
  const skip = { value: 'skip', key: 'S', words: 'Skip', tone: 'quiet' };
  if (numClips === 1) {
    return [
      { value: 'pass', key: '1', words: 'Pass', tone: 'good' },
      { value: 'unsure', key: '0', words: 'Unsure', tone: 'plain' },
      skip,
      { value: 'fail', key: '2', words: 'Fail', tone: 'bad' },
    ];
  }
  if (numClips === 2) {
    return [
      { value: 'left', key: '1', words: 'A is better', tone: 'clip-0' },
      { value: 'tie', key: '0', words: 'Tie', tone: 'plain' },
      { value: 'both_bad', key: '9', words: 'Both bad', tone: 'plain' },
      skip,
      { value: 'right', key: '2', words: 'B is better', tone: 'clip-1' },
    ];
  }
  const clips = LETTERS.slice(0, numClips).map((letter, position) => (
    { value: `rank-${position}`, key: String(position + 1), words: letter, tone: `clip-${position}` }));
  return [
    ...clips,
    { value: 'equal', key: '0', words: 'Next is equal', tone: 'plain' },
    { value: 'unrank', key: '⌫', words: 'Take back', tone: 'plain' },
    skip,
  ];
}

/**
 * What is asked. Questions are written for comparisons; one that begins with "Which" makes no sense about a single clip.
 * @param {{name: string, question: string}} axis
 */
export function questionOf({ name, question }, numClips) {
  if (numClips === 1 && /^which\b/i.test(question)) return `Does this clip pass on “${name}”?`;
  return question || name;
}

/** "Clip B"; a clip that stands alone needs no letter. */
export const clipName = (task, position) => (task.clips.length > 1 ? `Clip ${LETTERS[position]}` : 'The clip');

/**
 * Record an answer for the axis that is asked and move on to the first one without an answer.
 * @param {boolean} stepwise when all have one already: move on to the next, and after the last to the first
 */
export function record(draft, answer, stepwise) {
  draft.answers[draft.axisIdx] = answer;
  draft.recent = draft.recent.filter((axisIdx) => axisIdx !== draft.axisIdx).concat(draft.axisIdx);
  askAxis(draft, stepwise ? draft.axisIdx + 1 : Infinity);
}

/** Ask an axis; past the last one, the first that has no answer yet. */
export function askAxis(draft, axisIdx) {
  const open = draft.answers.indexOf(null);
  draft.axisIdx = axisIdx < draft.answers.length ? axisIdx : Math.max(open, 0);
  draft.order = (draft.answers[draft.axisIdx]?.order ?? []).map((group) => [...group]);
  draft.tieNext = false;
}

export const isComplete = (draft) => draft.answers.every(Boolean);

/** Take the latest answer back, or the clip ranked last while a ranking is begun. @returns {boolean} whether there was one */
export function takeBack(draft) {
  if (draft.order.length && !draft.answers[draft.axisIdx]) return unplace(draft);
  const axisIdx = draft.recent.pop();
  if (axisIdx === undefined) return false;
  draft.answers[axisIdx] = null;
  askAxis(draft, axisIdx);
  return true;
}

/**
 * What a choice means for the axis that is asked.
 * @param {string} value see choicesOf
 * @returns {?{choice: string}|{order: number[][]}} null while a ranking still lacks clips
 */
export function toAnswer(draft, value) {
  if (value === 'equal') draft.tieNext = draft.order.length > 0 && !draft.tieNext;
  else if (value === 'unrank') unplace(draft);
  else if (!value.startsWith('rank-')) return { choice: value };
  else if (place(draft, Number(value.slice(5)))) return { order: draft.order };
  return null;
}

/** Place a clip after those that are placed already. @returns {boolean} whether that was the last one */
function place(draft, position) {
  const numClips = draft.task.clips.length;
  if (draft.order.flat().length === numClips) draft.order = [];  // a new ranking over a finished one
  if (position >= numClips || draft.order.flat().includes(position)) return false;
  if (draft.tieNext && draft.order.length) draft.order.at(-1).push(position);
  else draft.order.push([position]);
  draft.tieNext = false;
  return draft.order.flat().length === numClips;
}

function unplace(draft) {
  draft.tieNext = false;
  draft.order.at(-1)?.pop();
  if (draft.order.at(-1)?.length === 0) draft.order.pop();
  return true;
}

/** Rank of a clip, 1 the best; 0 where it has none yet. */
export const rankOf = (order, position) => order.findIndex((group) => group.includes(position)) + 1;

export const describeOrder = (order) =>
  order.map((group) => group.map((position) => LETTERS[position]).join(' = ')).join(' › ');

export function describeAnswer(answer, numClips) {
  if (!answer) return '';
  if (answer.order) return describeOrder(answer.order);
  return choicesOf(numClips).find(({ value }) => value === answer.choice)?.words ?? '';
}

/**
 * The frame that a clip shows at a time: its middle in seconds, its number only where the clip declares its rate.
 * @param {number} timeS
 * @param {{fps_hz: ?number, num_frames: ?number}} clip
 */
export function frameAt(timeS, { fps_hz: fpsHz, num_frames: numFrames }) {
  if (!fpsHz) return { time_s: round(timeS), frame_idx: null };
  const frameIdx = Math.min(Math.max(Math.floor(timeS * fpsHz + 1e-3), 0), numFrames ? numFrames - 1 : Infinity);
  return { time_s: round((frameIdx + 0.5) / fpsHz), frame_idx: frameIdx };
}

/** "1.25 s (frame 10)"; frames are counted from 0, as in the stored rows. */
export const describeTime = ({ time_s: timeS, frame_idx: frameIdx }) =>
  `${timeS.toFixed(2)} s${frameIdx === null ? '' : ` (frame ${frameIdx})`}`;

const round = (seconds) => Math.round(seconds * 1e6) / 1e6;

/** Add a break-point; it replaces an explicit "no breaks" of the same clip. */
export function addBreak(draft, mark) {
  draft.breaks = draft.breaks.filter((other) => !(other.none && other.position === mark.position)).concat(mark);
}

/** Say or take back that a clip has no breaks. @returns {boolean} false where break-points stand against it */
export function toggleNoBreaks(draft, position) {
  const own = draft.breaks.filter((mark) => mark.position === position);
  if (own.some((mark) => !mark.none)) return false;
  draft.breaks = draft.breaks.filter((mark) => mark.position !== position);
  if (!own.length) draft.breaks.push({ position, time_s: null, frame_idx: null, category: '', severity: null, none: true });
  return true;
}

/**
 * The submission of a finished draft, or null where it says nothing new.
 * @param {Draft} draft
 * @param {string} guidelineVersion
 */
export function toSubmission(draft, guidelineVersion) {
  const { task, comment, breaks } = draft;
  const answers = task.axes.map(({ name }, axisIdx) => ({ axis: name, ...draft.answers[axisIdx] }));
  const said = JSON.stringify({ answers, comment, breaks });
  if (said === draft.sent) return null;
  draft.sent = said;
  return { submission_id: makeId(), lease_id: task.lease_id, answers, comment, breaks, guideline_version: guidelineVersion };
}
