/** What is suspicious about an episode, each with its moment. */

import { useEffect, useState } from "preact/hooks";
import { get } from "../api.ts";
import { useAsked } from "../asking.ts";
import { useKnown } from "../context.tsx";
import { decimal } from "../model/format.ts";
import { placeTo } from "../router.ts";
import type { EpisodeFlags, FlagKind } from "../types.ts";

// While the server has not looked at it, or is to look again, ms.
const LOOK_AGAIN_MS = 4000;

/** A flag's name as words: "idle end". */
export function plain(flag: string): string {
  return flag.replaceAll("_", " ");
}

/** Every kind of flag there is. */
export function useFlagKinds(): FlagKind[] {
  return useAsked<FlagKind[]>((signal) => get("flags", signal), []).value ?? [];
}

interface Props {
  sessionId: number;
  episodeIndex: number;
  kinds: FlagKind[];
  onFrame: (frame: number) => void;
}

export function FlagsPanel({ sessionId, episodeIndex, kinds, onFrame }: Props) {
  const { say, language } = useKnown();
  const [open, setOpen] = useState(false);
  const found = useAsked<EpisodeFlags>(
    (signal) => get(`sessions/${sessionId}/episodes/${episodeIndex}/flags`, signal),
    [sessionId, episodeIndex],
    open ? LOOK_AGAIN_MS : null,
  );
  useEffect(() => {
    setOpen(found.value !== null && (found.value.waiting || found.value.looked_at === null));
  }, [found.value]);
  if (!found.value) return null;
  const { flags, looked_at, waiting } = found.value;
  return (
    <section class="ledger" aria-label={say("flags")}>
      <header>
        <h2>{say("flags")}</h2>
        {waiting && <small class="quiet">{say("flagsWaiting")}</small>}
      </header>
      {flags.length === 0 && <p class="quiet">{say(looked_at ? "flagsNone" : "flagsUnknown")}</p>}
      <ul>
        {flags.map((each) => {
          const kind = kinds.find((one) => one.name === each.flag);
          return (
            <li key={`${each.flag} ${each.joint} ${each.first_frame}`} title={kind?.why}>
              <button type="button" class="link" onClick={() => onFrame(each.first_frame)}>
                {plain(each.flag)}
              </button>{" "}
              {each.joint && <span>{each.joint} </span>}
              <small class="quiet">
                {say("flagValue", {
                  value: decimal(each.value, language),
                  threshold: decimal(each.threshold, language),
                  unit: kind?.unit ?? "",
                })}
              </small>
              {each.other_session !== null && (
                <a href={placeTo(["sessions", each.other_session], { episode: each.other_episode ?? 0 })}>
                  {" "}
                  {each.other_session}·{each.other_episode}
                </a>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}
