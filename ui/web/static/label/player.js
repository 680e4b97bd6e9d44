/**
 * Plays the clips of one task in step. The longest clip is the clock; the others are pulled towards it by small changes of
 * their speed, and by a seek only where they are further off than that could mend. At the end all wait for the longest,
 * hold its last frame for a moment and start again together; a browser's own `loop` would let each drift on its own.
 */

const NUDGE_BELOW_S = 0.12;
const PULL_S = 0.12; // time in which a nudge removes most of the drift
const CLOSE_ENOUGH_S = 0.002;
const SAMPLES = 5; // median over so many, because some browsers report the time in whole frames
const HOLD_MS = 300;
const SEEK_TIMEOUT_MS = 1500;
const GUESSED_FPS_HZ = 25; // only for the width of a step where no rate is declared
export const SPEEDS = [0.25, 0.5, 1, 1.5, 2];

export class Player {
  #generation = 0;
  #drifts;
  #frame = 0;

  /**
   * @param {{video: HTMLVideoElement, fpsHz: ?number}[]} clips those that can be played
   * @param {number} speed to begin with
   * @param {{onChange: () => void, onTime: () => void, onStart: () => void}} events onStart: every clip shows a playing frame
   */
  constructor(clips, speed, events) {
    this.clips = clips;
    this.events = events;
    this.playing = false;
    this.speed = speed;
    this.started = false;
    this.#drifts = clips.map(() => []);
    // Clips that were seen before begin anew.
    for (const { video } of clips) if (video.currentTime > 0) video.currentTime = 0;
  }

  get durationS() {
    return Math.max(0.001, ...this.clips.map(({ video }) => video.duration || 0));
  }

  get #leader() {
    return this.clips.reduce((best, clip) => (clip.video.duration > best.video.duration ? clip : best)).video;
  }

  get timeS() {
    return this.clips.length ? this.#leader.currentTime : 0;
  }

  get stepS() {
    return 1 / Math.max(...this.clips.map(({ fpsHz }) => fpsHz ?? GUESSED_FPS_HZ));
  }

  play() {
    if (this.playing || !this.clips.length) return;
    this.playing = true;
    this.events.onChange();
    this.#start(++this.#generation);
  }

  /** Stop on whole frames, all clips on the same instant. */
  pause() {
    if (!this.playing) return;
    this.halt();
    this.seek(this.#midFrame(this.timeS));
  }

  /** Stop at once and leave everything as it is; for clips that go out of sight. */
  halt() {
    this.playing = false;
    this.#generation += 1;
    cancelAnimationFrame(this.#frame);
    for (const { video } of this.clips) video.pause();
    this.events.onChange();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** Move all clips by whole frames; pauses. */
  step(numFrames) {
    this.pause();
    this.seek(this.#midFrame(this.timeS + numFrames * this.stepS));
  }

  /** Show one instant of all clips; a shorter clip stays on its last frame. Pauses. */
  seek(timeS) {
    if (this.playing) this.halt();
    const target = Math.min(Math.max(timeS, 0), this.durationS);
    for (const clip of this.clips) clip.video.currentTime = Math.min(target, lastMidFrame(clip));
    this.events.onTime();
  }

  changeSpeed(direction) {
    const idx = SPEEDS.indexOf(this.speed) + direction;
    this.setSpeed(SPEEDS[Math.min(Math.max(idx, 0), SPEEDS.length - 1)]);
  }

  /** The next speed, and from the fastest back to the slowest. */
  cycleSpeed() {
    this.setSpeed(SPEEDS[(SPEEDS.indexOf(this.speed) + 1) % SPEEDS.length]);
  }

  setSpeed(speed) {
    this.speed = speed;
    for (const { video } of this.clips) video.playbackRate = speed;
    this.events.onChange();
  }

  #midFrame(timeS) {
    const last = Math.max(0, Math.round(this.durationS / this.stepS) - 1);
    const frameIdx = Math.min(Math.max(Math.floor(timeS / this.stepS + 1e-3), 0), last);
    return (frameIdx + 0.5) * this.stepS;
  }

  async #start(generation) {
    const leader = this.#leader;
    if (leader.ended || leader.currentTime >= lastMidFrame({ video: leader, fpsHz: 1 / this.stepS }) - 1e-3) {
      await this.#seekAll(0);
    }
    if (generation !== this.#generation) return;
    if (!this.started) this.#watchStart(generation);
    for (const drifts of this.#drifts) drifts.length = 0;
    // A clip that has ended would start again from its beginning by itself, so only those before their end are started.
    const begun = this.clips.filter(({ video }) => !video.ended).map(({ video }) => {
      video.playbackRate = this.speed;
      return video.play();
    });
    this.#follow(generation);
    const refused = (await Promise.allSettled(begun)).some(({ reason }) => reason?.name === 'NotAllowedError');
    if (refused && generation === this.#generation) this.halt();
  }

  /** Tell once that a frame of every clip is on the screen; falls back on the time where frames can't be watched. */
  #watchStart(generation) {
    const first = this.clips.map(({ video }) => new Promise((resolve) => {
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
      else video.addEventListener('timeupdate', resolve, { once: true });
    }));
    Promise.all(first).then(() => {
      if (generation !== this.#generation || this.started) return;
      this.started = true;
      this.events.onStart();
    });
  }

  #follow(generation) {
    this.#frame = requestAnimationFrame(() => {
      if (generation !== this.#generation) return;
      const leader = this.#leader;
      if (leader.ended) {
        this.#restart(generation);
        return;
      }
      this.clips.forEach((clip, idx) => clip.video !== leader && !clip.video.ended && this.#pull(clip, leader, idx));
      this.events.onTime();
      this.#follow(generation);
    });
  }

  #pull({ video, fpsHz }, leader, idx) {
    const drifts = this.#drifts[idx];
    drifts.push(video.currentTime - leader.currentTime);
    if (drifts.length > SAMPLES) drifts.shift();
    const drift = [...drifts].sort((a, b) => a - b)[drifts.length >> 1];
    if (Math.abs(drift) > Math.max(NUDGE_BELOW_S, 0.5 / (fpsHz ?? GUESSED_FPS_HZ)) && !video.seeking) {
      video.currentTime = Math.min(leader.currentTime, video.duration);
      drifts.length = 0;
      return;
    }
    const pull = Math.abs(drift) < CLOSE_ENOUGH_S ? 0 : Math.min(Math.max(drift / PULL_S, -0.5), 0.5);
    const rate = this.speed * (1 - pull);
    if (Math.abs(video.playbackRate - rate) > 0.005) video.playbackRate = rate;
  }

  async #restart(generation) {
    this.events.onTime();
    await new Promise((resolve) => setTimeout(resolve, HOLD_MS / this.speed));
    if (generation !== this.#generation) return;
    await this.#seekAll(0);
    if (generation === this.#generation) this.#start(generation);
  }

  #seekAll(timeS) {
    return Promise.all(this.clips.map(({ video }) => new Promise((resolve) => {
      video.addEventListener('seeked', resolve, { once: true });
      setTimeout(resolve, SEEK_TIMEOUT_MS);
      video.pause();
      video.currentTime = timeS;
    })));
  }
}

/** The middle of a clip's last frame: a seek to the very end shows nothing in some browsers. */
function lastMidFrame({ video, fpsHz }) {
  return Math.max(0, (video.duration || 0) - 0.5 / (fpsHz ?? GUESSED_FPS_HZ));
}
