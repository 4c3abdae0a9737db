/** What keys do in a view, and the list of them. */

import { useEffect, useRef } from "preact/hooks";
import { useKnown } from "../context.tsx";
import { type Action, actionOf, isTyping } from "../model/keys.ts";
import type { Word } from "../words/index.ts";
import { Dialog } from "./common.tsx";

/** Let keys do something, unless they are typed into a field; `handle` says whether it was one of its own. */
export function useKeys(handle: (action: Action | "enter") => boolean): void {
  const newest = useRef(handle);
  newest.current = handle;
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing || isTyping(event.target)) return;
      // Space and Enter press the button or link that has the focus.
      const onButton = event.target instanceof Element && event.target.closest("button, a, summary") !== null;
      if (onButton && (event.code === "Space" || event.key === "Enter")) return;
      const action = event.key === "Enter" ? "enter" : actionOf(event);
      if (action !== null && newest.current(action)) event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

const KEYS: [Word, [string[], Word][]][] = [
  [
    "keysPlaying",
    [
      [["Space"], "keyPlay"],
      [["J", "K", "L"], "keyShuttle"],
      [["←", "→"], "keyFrame"],
      [["⇧ ←", "⇧ →"], "keyTen"],
      [["Home", "End"], "keyEnds"],
      [["↑", "↓"], "keyEpisodes"],
    ],
  ],
  [
    "keysJudging",
    [
      [["S", "F", "D"], "keyOutcome"],
      [["1", "…", "5"], "keyQuality"],
      [["N", "T"], "keyNote"],
      [["U"], "keyUndo"],
    ],
  ],
  [
    "keysElsewhere",
    [
      [["?"], "keyHelp"],
      [["Esc"], "keyEscape"],
    ],
  ],
];

export function KeyList({ onClose }: { onClose: () => void }) {
  const { say } = useKnown();
  return (
    <Dialog title={say("keysTitle")} onClose={onClose}>
      <div class="keys">
        {KEYS.map(([title, rows]) => (
          <section key={title}>
            <h3>{say(title)}</h3>
            <dl>
              {rows.map(([keys, what]) => (
                <div key={what}>
                  <dt>
                    {keys.map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{say(what)}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
