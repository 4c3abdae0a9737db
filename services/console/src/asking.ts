/** Data that is asked for when a part of the page is shown, and again while it may change. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Problem, Refused } from "./api.ts";

export interface Asked<T> {
  value: T | null;
  problem: Problem | null;
  again(): void;
}

const SURPRISE: Problem = { status: 0, code: "unknown", detail: "" };
// How long to wait after something failed, ms.
const PAUSE_MS = 3000;

export function problemIn(error: unknown): Problem {
  return error instanceof Refused ? error.problem : { ...SURPRISE, detail: String(error) };
}

/**
 * The newest answer.
 *
 * deps     another question, so that the last answer is forgotten
 * everyMs  how long after an answer to ask again, while the page is looked at; null: not at all
 */
export function useAsked<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  deps: readonly unknown[],
  everyMs: number | null = null,
): Asked<T> {
  const [value, setValue] = useState<T | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [round, setRound] = useState(0);
  const question = JSON.stringify(deps);
  const asking = useRef(ask);
  asking.current = ask;
  const every = useRef(everyMs);
  every.current = everyMs;

  // biome-ignore lint/correctness/useExhaustiveDependencies: another question
  useEffect(() => {
    setValue(null);
    setProblem(null);
  }, [question]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another question, or the same once more
  useEffect(() => {
    const leaving = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const later = (afterMs: number) => {
      timer = setTimeout(() => (document.hidden ? later(afterMs) : void once()), afterMs);
    };
    const once = async () => {
      let failed: Problem | null = null;
      try {
        const answer = await asking.current(leaving.signal);
        if (leaving.signal.aborted) return;
        setValue(answer);
      } catch (error) {
        if (leaving.signal.aborted) return;
        failed = problemIn(error);
      }
      setProblem(failed);
      if (failed?.retryable && failed.status !== 401) later(PAUSE_MS);
      else if (failed === null && every.current !== null) later(every.current);
    };
    void once();
    return () => {
      leaving.abort();
      clearTimeout(timer);
    };
  }, [question, round, everyMs === null]);

  const again = useCallback(() => setRound((before) => before + 1), []);
  return { value, problem, again };
}
