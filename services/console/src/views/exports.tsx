/** Datasets that are made of sessions: begin one, follow it, read its account, download it. */

import { useState } from "preact/hooks";
import { address, get, getText, send } from "../api.ts";
import { problemIn, useAsked } from "../asking.ts";
import { useKnown } from "../context.tsx";
import { decimal, duration, size, time, whole } from "../model/format.ts";
import { readNumbers, writeNumbers } from "../model/numbers.ts";
import { Command, Dialog, Empty, Loading, Trouble, tell } from "../parts/common.tsx";
import type { ExportPage, ExportView, SessionView } from "../types.ts";
import type { Word } from "../words/index.ts";
import { Select } from "./sessions.tsx";

const EVERY_MS = 1500;
const PAGE = 50;
const LABELS = ["everythingKept", "successAndUnlabelled", "onlySuccess"] as const;
type Labels = (typeof LABELS)[number];
const OUTCOMES: Record<Labels, string[] | undefined> = {
  everythingKept: undefined,
  successAndUnlabelled: ["success", "unlabelled"],
  onlySuccess: ["success"],
};
const STAGES: Record<string, Word> = {
  data: "stageData",
  video: "stageVideo",
  statistics: "stageStatistics",
  verify: "stageVerify",
};
const STATUSES: Record<ExportView["status"], Word> = {
  queued: "queued",
  running: "running",
  done: "done",
  failed: "failedExport",
  cancelled: "cancelled",
};

export function Exports({ query }: { query: Record<string, string> }) {
  const { say, may } = useKnown();
  const [limit, setLimit] = useState(PAGE);
  const found = useAsked<ExportPage>(
    (signal) => get(address("exports", { limit }), signal),
    [limit],
    EVERY_MS,
  );
  const [report, setReport] = useState<ExportView | null>(null);
  const exports = found.value?.exports ?? [];
  return (
    <>
      <h1 class="hidden">{say("exports")}</h1>
      {may("operate") && <NewExport asked={query["sessions"] ?? ""} onStarted={found.again} />}
      {found.problem && !found.value && <Trouble problem={found.problem} again={found.again} />}
      {!found.value && !found.problem && <Loading />}
      {found.value && exports.length === 0 && (
        <Empty title={say("emptyExports")} hint={say("emptyExportsHint")}>
          <Command
            text={`export-to-dataset --session_id 1 --repo_id my-user/my-new-dataset --backend_url ${location.origin}`}
          />
        </Empty>
      )}
      <ul class="exports">
        {exports.map((each) => (
          <OneExport key={each.id} made={each} onReport={() => setReport(each)} onChanged={found.again} />
        ))}
      </ul>
      {found.value?.next_cursor && limit < 1000 && (
        <button type="button" class="more" onClick={() => setLimit(Math.min(1000, limit * 2))}>
          {say("more")}
        </button>
      )}
      {report && <Report made={report} onClose={() => setReport(null)} />}
    </>
  );
}

function NewExport({ asked, onStarted }: { asked: string; onStarted: () => void }) {
  const { say } = useKnown();
  const [ids, setIds] = useState(() => writeNumbers(readNumbers(asked) ?? []));
  const [repo, setRepo] = useState("");
  const [labels, setLabels] = useState<Labels>("successAndUnlabelled");
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<ReturnType<typeof problemIn> | null>(null);
  const numbers = readNumbers(ids);
  const start = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setRefused(null);
    try {
      await send("POST", "exports", {
        repo_id: repo.trim(),
        session_ids: numbers,
        ...(OUTCOMES[labels] && { include_outcomes: OUTCOMES[labels] }),
      });
      onStarted();
    } catch (error) {
      setRefused(problemIn(error));
    }
    setBusy(false);
  };
  return (
    <form class="new-export" onSubmit={start}>
      <h2>{say("newExport")}</h2>
      <label>
        <span>{say("exportIds")}</span>
        <input
          name="sessions"
          required
          value={ids}
          placeholder={say("exportIdsHint")}
          aria-invalid={ids !== "" && numbers === null}
          onInput={(event) => setIds(event.currentTarget.value)}
        />
      </label>
      <label>
        <span>{say("repoId")}</span>
        <input
          name="repo_id"
          required
          value={repo}
          placeholder={say("repoIdHint")}
          spellcheck={false}
          onInput={(event) => setRepo(event.currentTarget.value)}
        />
      </label>
      <Select
        required
        label={say("labelsWanted")}
        value={labels}
        options={LABELS.map((each) => [each, say(each)])}
        onChange={(value) => setLabels(value as Labels)}
      />
      <button type="submit" class="primary" disabled={busy || numbers === null || !repo.includes("/")}>
        {say("start")}
      </button>
      {ids !== "" && numbers === null && <p class="bad">{say("badIds")}</p>}
      {numbers !== null && <WillHold ids={numbers} />}
      {refused && <Trouble problem={refused} />}
    </form>
  );
}

// Of so many sessions it is asked what they are, before an export of them begins.
const LOOKED_AT = 50;

/** What the chosen sessions are, before anything is made of them. */
function WillHold({ ids }: { ids: number[] }) {
  const { say, language } = useKnown();
  const found = useAsked<SessionView[]>(
    (signal) => Promise.all(ids.slice(0, LOOKED_AT).map((id) => get<SessionView>(`sessions/${id}`, signal))),
    [ids.join()],
  );
  if (found.problem) return <p class="bad">{found.problem.detail}</p>;
  if (!found.value || ids.length > LOOKED_AT)
    return <p class="quiet">{say("nSessions", { n: ids.length })}</p>;
  const frames = found.value.reduce((sum, each) => sum + each.frames - each.missing, 0);
  const seconds = found.value.reduce((sum, each) => sum + each.frames / each.fps, 0);
  const rates = new Set(found.value.map((each) => each.fps));
  return (
    <p class="quiet">
      {say("willHold", {
        sessions: say("nSessions", { n: ids.length }),
        episodes: say("nEpisodes", { n: found.value.reduce((sum, each) => sum + each.episodes, 0) }),
        frames: say("nFrames", { n: whole(frames, language) }),
        time: duration(seconds),
        hz: [...rates].map((rate) => decimal(rate, language, 1)).join(" / "),
      })}
      {rates.size > 1 && ` (${say("ratesDiffer")})`} · {say("labelsHint")}
    </p>
  );
}

interface OneProps {
  made: ExportView;
  onReport: () => void;
  onChanged: () => void;
}

function OneExport({ made, onReport, onChanged }: OneProps) {
  const { say, language, may } = useKnown();
  const [asking, setAsking] = useState(false);
  const active = made.status === "queued" || made.status === "running";
  const remove = async () => {
    setAsking(false);
    try {
      await send("DELETE", `exports/${made.id}`);
      onChanged();
    } catch (error) {
      tell(problemIn(error).detail, true);
    }
  };
  return (
    <li data-export={made.id}>
      <header>
        <h2>{made.request.repo_id}</h2>
        <span class={`status ${made.status}`}>{say(STATUSES[made.status])}</span>
        <small class="quiet">
          {say("exportOf", { id: made.id })} · {time(made.created_at, language)} · {say("sessions")}{" "}
          {writeNumbers(made.request.session_ids ?? [])}
        </small>
      </header>
      {active && (
        <div class="stages">
          {made.progress.map((each) => (
            <label key={each.stage}>
              {say(STAGES[each.stage] ?? "running")}
              <progress value={each.done} max={Math.max(1, each.total)} />
            </label>
          ))}
        </div>
      )}
      {made.error && (
        <p class="bad">
          {made.error.detail} {made.error.hint}
        </p>
      )}
      {made.numbers && (
        <p>
          {say("datasetOf", {
            episodes: say("nEpisodes", { n: made.numbers.episodes }),
            frames: say("nFrames", { n: whole(made.numbers.frames, language) }),
            size: size(made.numbers.size_bytes),
          })}
        </p>
      )}
      <footer>
        {made.status === "done" && (
          <>
            <a class="button primary" href={`exports/${made.id}/archive`} download>
              {say("downloadDataset")}
            </a>
            <button type="button" onClick={onReport}>
              {say("report")}
            </button>
          </>
        )}
        <button
          type="button"
          class="plain"
          disabled={!may("operate")}
          title={may("operate") ? undefined : say("needsOperator")}
          onClick={() => (active ? void remove() : setAsking(true))}
        >
          {say(active ? "cancelExport" : "remove")}
        </button>
      </footer>
      {asking && (
        <Dialog title={say("remove")} onClose={() => setAsking(false)}>
          <p>{say("removeAsk", { id: made.id })}</p>
          <footer>
            <button type="button" onClick={() => setAsking(false)}>
              {say("cancel")}
            </button>
            <button type="button" class="primary" onClick={() => void remove()}>
              {say("remove")}
            </button>
          </footer>
        </Dialog>
      )}
    </li>
  );
}

function Report({ made, onClose }: { made: ExportView; onClose: () => void }) {
  const { say } = useKnown();
  const text = useAsked<string>(
    (signal) => getText(`exports/${made.id}/report.txt`, "text/plain", signal),
    [made.id],
  );
  return (
    <Dialog wide title={`${say("report")}: ${made.request.repo_id}`} onClose={onClose}>
      {text.problem ? (
        <Trouble problem={text.problem} />
      ) : text.value === null ? (
        <Loading />
      ) : (
        <pre>{text.value}</pre>
      )}
    </Dialog>
  );
}
