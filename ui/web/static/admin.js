// Says once that the session has ended or the server is away, instead of an error at every tick. What Gradio asks for meanwhile waits
// and goes on afterwards; texts that were typed stay.
(() => {
  const AGAIN_MS = 3000;
  const TRIES = 3; // of a call that fails although server and session are well: more of them would never end
  const CALLS = /\/gradio_api\//;
  const ENDED = `Your session has ended. <a href="/sign-in?next=/admin/" target="_blank">Sign in again</a> (in a new tab), then come
    back here: what you typed is kept, and what you pressed last is done then.`;
  const OTHER = `You are signed in as somebody who is no admin. <a href="/label/">Go to the labelling page</a>, or sign out there and
    sign in as an admin.`;
  const AWAY = "The server doesn't answer; trying again every few seconds.";
  const ask = window.fetch.bind(window);
  let waiting = null; // a promise and what fulfils it

  function tell(text) {
    let bar = document.getElementById("session");
    if (!bar) {
      bar = document.createElement("div");
      bar.id = "session";
      bar.className = "notice bad";
      bar.setAttribute("role", "alert");
      Object.assign(bar.style, { position: "sticky", top: "0", zIndex: 30 });
      document.querySelector(".gradio-container").prepend(bar);
    }
    if (bar.dataset.text !== text) bar.innerHTML = `<div>${text}</div>`;
    bar.dataset.text = text;
  }

  async function look() {
    if (!waiting) return;
    let text = AWAY;
    try {
      const answer = await ask("/api/me");
      if (answer.ok) text = (await answer.json()).role === "admin" ? "" : OTHER;
      else if (answer.status === 401) text = ENDED;
    } catch { /* away still */ }
    if (!waiting) return;
    if (text) {
      tell(text);
      if (text === AWAY) setTimeout(look, AGAIN_MS);
      return;
    }
    const bar = document.getElementById("session");
    bar?.remove();
    const done = waiting.resolve;
    waiting = null;
    done(Boolean(bar));
  }

  /** Until all is well; tells whether anything was amiss. */
  function wait() {
    if (!waiting) {
      waiting = {};
      waiting.promise = new Promise((resolve) => { waiting.resolve = resolve; });
      look();
    }
    return waiting.promise;
  }

  window.fetch = async (input, init) => {
    const url = String(input?.url ?? input);
    if (!CALLS.test(url)) return ask(input, init);
    for (let tries = 1; ; tries += 1) {
      if (waiting) await waiting.promise;
      let answer = null, failure = null;
      try {
        answer = await ask(input, init);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        failure = error;
      }
      if (answer && answer.status !== 401 && answer.status !== 403) return answer;
      if (await wait()) tries = 0;
      else if (tries >= TRIES && failure) throw failure;
      else if (tries >= TRIES) return answer;
    }
  };
  window.addEventListener("focus", look);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
})();
