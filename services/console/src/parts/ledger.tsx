/** The account of a session, sample by sample. */

import { useKnown } from "../context.tsx";
import { decimal, whole } from "../model/format.ts";
import type { Ledger } from "../types.ts";
import type { Word } from "../words/index.ts";

interface Props {
  ledger: Ledger;
  onFrame: (frame: number) => void;
}

export function LedgerPanel({ ledger, onFrame }: Props) {
  const { say, language } = useKnown();
  const counts: [Word, number | null, boolean][] = [
    ["logged", ledger.logged, false],
    ["committed", ledger.committed, false],
    ["missing", ledger.missing, true],
    ["refused", ledger.refused, true],
    ["unaccounted", ledger.unaccounted, true],
    ["duplicates", ledger.duplicates, true],
    ["exportedFrames", ledger.exported, false],
  ];
  return (
    <section class="ledger" aria-label={say("ledger")}>
      <header>
        <h2>{say("ledger")}</h2>
        <span class={`label ${ledger.complete ? "success" : "unlabelled"}`}>
          {say(ledger.complete ? "ledgerComplete" : "ledgerOpen")}
        </span>
      </header>
      <dl>
        {counts.map(([name, count, bad]) => (
          <div key={name} class={bad && count ? "bad" : ""}>
            <dt>{say(name)}</dt>
            <dd>{count === null ? "–" : whole(count, language)}</dd>
          </div>
        ))}
        <div>
          <dt>{say("declared")}</dt>
          <dd>{decimal(ledger.declared_hz, language, 1)} Hz</dd>
        </div>
        <div>
          <dt>{say("measured")}</dt>
          <dd>{decimal(ledger.measured_hz, language)} Hz</dd>
        </div>
        <div>
          <dt>{say("jitter")}</dt>
          <dd>{decimal(ledger.jitter_ms, language)} ms</dd>
        </div>
        <div>
          <dt>{say("stall")}</dt>
          <dd>
            {decimal(ledger.longest_stall_ms, language, 1)} ms
            {ledger.stall_at_frame !== null && (
              <button type="button" class="link" onClick={() => onFrame(ledger.stall_at_frame!)}>
                {say("atFrame", { frame: ledger.stall_at_frame })}
              </button>
            )}
          </dd>
        </div>
        {ledger.cameras.map((camera) => (
          <div key={camera.camera_key} class={camera.missing_chunks ? "bad" : ""}>
            <dt>{say("pictures", { camera: camera.camera_key })}</dt>
            <dd>
              {whole(camera.pictures, language)}
              {camera.missing_chunks > 0 && `, ${say("missingChunks", { n: camera.missing_chunks })}`}
            </dd>
          </div>
        ))}
      </dl>
      {ledger.gaps.length > 0 && (
        <>
          <h3>{say("gaps")}</h3>
          <ul>
            {ledger.gaps.slice(0, 50).map((gap) => (
              <li key={gap.first_frame}>
                <button type="button" class="link" onClick={() => onFrame(gap.first_frame)}>
                  {gap.first_frame}–{gap.end_frame - 1}
                </button>{" "}
                {gap.reason}
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
