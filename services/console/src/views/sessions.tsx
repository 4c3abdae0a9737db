/** All sessions, newest first, with what is being recorded now. */

import { useEffect, useState } from "preact/hooks";
import { address, get } from "../api.ts";
import { useAsked } from "../asking.ts";
import { useKnown } from "../context.tsx";
import { decimal, duration, time, whole } from "../model/format.ts";
import { Command, Empty, Loading, Trouble } from "../parts/common.tsx";
import { placeTo, replaceQuery } from "../router.ts";
import type { RobotView, SessionPage, SessionView } from "../types.ts";

const PAGE = 100;
const EVERY_MS = 3000;
const FILTERS = ["robot_id", "status", "task", "tag", "outcome"] as const;
const STATES = ["recording", "complete", "interrupted"] as const;
const OUTCOMES = ["success", "failure", "discarded"] as const;

export function Sessions({ query }: { query: Record<string, string> }) {
  const { say, may } = useKnown();
  const [limit, setLimit] = useState(PAGE);
  const [chosen, setChosen] = useState<ReadonlySet<number>>(new Set());
  const filter = Object.fromEntries(FILTERS.map((name) => [name, query[name] ?? ""]));
  const filtered = Object.values(filter).some(Boolean);
  const found = useAsked<SessionPage>(
    (signal) => get(address("sessions", { ...filter, limit }), signal),
    [JSON.stringify(filter), limit],
    EVERY_MS,
  );
  const robots = useAsked<RobotView[]>((signal) => get("robots", signal), [], EVERY_MS);
  const change = (name: string, value: string) => {
    setLimit(PAGE);
    replaceQuery({ ...filter, [name]: value });
  };
  const sessions = found.value?.sessions ?? [];
  const toggle = (id: number) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  if (found.problem && !found.value) return <Trouble problem={found.problem} again={found.again} />;
  if (!found.value) return <Loading />;
  if (sessions.length === 0 && !filtered) return <FirstSteps />;
  return (
    <>
      <h1 class="hidden">{say("sessions")}</h1>
      <form class="filters" onSubmit={(event) => event.preventDefault()}>
        <Select
          label={say("robot")}
          value={filter["robot_id"]!}
          options={(robots.value ?? []).map((robot) => [robot.robot_id, robot.robot_id])}
          onChange={(value) => change("robot_id", value)}
        />
        <Select
          label={say("state")}
          value={filter["status"]!}
          options={STATES.map((each) => [each, say(each)])}
          onChange={(value) => change("status", value)}
        />
        <Select
          label={say("outcome")}
          value={filter["outcome"]!}
          options={OUTCOMES.map((each) => [each, say(each)])}
          onChange={(value) => change("outcome", value)}
        />
        <Text label={say("filterTask")} value={filter["task"]!} onChange={(value) => change("task", value)} />
        <Text label={say("filterTag")} value={filter["tag"]!} onChange={(value) => change("tag", value)} />
        {filtered && (
          <button type="button" class="plain" onClick={() => replaceQuery({})}>
            {say("clearFilters")}
          </button>
        )}
        {chosen.size > 0 && (
          <a
            class={`button primary ${may("operate") ? "" : "disabled"}`}
            aria-disabled={!may("operate")}
            title={may("operate") ? undefined : say("needsOperator")}
            href={placeTo(["exports"], { sessions: [...chosen].sort((a, b) => a - b).join(",") })}
          >
            {say("exportSelected")} ({chosen.size})
          </a>
        )}
      </form>
      {found.problem && <p class="quiet">{say("oldCopy")}</p>}
      {sessions.length === 0 ? (
        <Empty title={say("noMatch")}>
          <button type="button" onClick={() => replaceQuery({})}>
            {say("clearFilters")}
          </button>
        </Empty>
      ) : (
        <Table sessions={sessions} chosen={chosen} onToggle={toggle} />
      )}
      {found.value.next_cursor !== null && limit < 1000 && (
        <button type="button" class="more" onClick={() => setLimit(Math.min(1000, limit + PAGE))}>
          {say("more")}
        </button>
      )}
    </>
  );
}

interface TableProps {
  sessions: SessionView[];
  chosen: ReadonlySet<number>;
  onToggle: (id: number) => void;
}

function Table({ sessions, chosen, onToggle }: TableProps) {
  const { say, language } = useKnown();
  return (
    <div class="table-frame">
      <table class="sessions">
        <thead>
          <tr>
            <th>
              <span class="hidden">{say("select", { id: "" })}</span>
            </th>
            <th class="number">#</th>
            <th>{say("state")}</th>
            <th>{say("robot")}</th>
            <th>{say("task")}</th>
            <th class="number">{say("episodes")}</th>
            <th class="number">{say("length")}</th>
            <th class="number">{say("frames")}</th>
            <th class="number">Hz</th>
            <th>{say("tags")}</th>
            <th>{say("started")}</th>
          </tr>
        </thead>
        <tbody>
          {sessions.map((session) => (
            <tr key={session.id}>
              <td>
                <input
                  type="checkbox"
                  aria-label={say("select", { id: session.id })}
                  checked={chosen.has(session.id)}
                  onChange={() => onToggle(session.id)}
                />
              </td>
              <td class="number">
                <a href={placeTo(["sessions", session.id])} aria-label={say("session", { id: session.id })}>
                  {session.id}
                </a>
              </td>
              <td>
                <span class={`status ${session.status}`}>{say(session.status)}</span>
              </td>
              <td>{session.robot_id}</td>
              <td class="task">
                <a href={placeTo(["sessions", session.id])} tabIndex={-1}>
                  {session.task ?? <span class="quiet">{say("noTask")}</span>}
                </a>
              </td>
              <td class="number" data-label={say("episodes")}>
                {session.episodes}
              </td>
              <td class="number">{duration(session.frames / session.fps)}</td>
              <td class="number" data-label={say("frames")}>
                {whole(session.frames, language)}
                {session.missing > 0 && (
                  <span class="bad" title={say("nMissing", { n: session.missing })}>
                    {" "}
                    −{whole(session.missing, language)}
                  </span>
                )}
              </td>
              <td class="number" data-label="Hz">
                {decimal(session.fps, language, 1)}
              </td>
              <td>
                {session.tags.map((tag) => (
                  <span key={tag} class="tag">
                    {tag}
                  </span>
                ))}
              </td>
              <td class="quiet">{time(session.start_time, language)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function FirstSteps() {
  const { say } = useKnown();
  const ws = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;
  return (
    <Empty title={say("emptySessions")}>
      <p class="quiet">{say("emptySessionsHint")}</p>
      <Command
        text={`.venv/bin/lerobot-teleoperate --robot.type=virtual_so101_follower --robot.id=follower --teleop.type=virtual_so101_leader --teleop.id=leader --teleop_time_s=10 --backend_url=${ws} --robot_id=robot_A`}
      />
      <p class="quiet">{say("emptySessionsRobot")}</p>
      <Command
        text={`lerobot-teleoperate --robot.type=so101_follower --robot.port=/dev/ttyACM0 --teleop.type=so101_leader --teleop.port=/dev/ttyACM1 --backend_url=${ws} --robot_id=robot_A`}
      />
    </Empty>
  );
}

interface SelectProps {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
  required?: boolean;
}

export function Select({ label, value, options, onChange, required }: SelectProps) {
  const { say } = useKnown();
  return (
    <label>
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {!required && <option value="">{say("filterAll")}</option>}
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A field whose value counts once it is left, or Enter is pressed. */
export function Text({
  label,
  value,
  onChange,
}: {
  label: string;
  value: string;
  onChange: (value: string) => void;
}) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  return (
    <label>
      <span>{label}</span>
      <input
        type="search"
        value={typed}
        onInput={(event) => setTyped(event.currentTarget.value)}
        onChange={(event) => onChange(event.currentTarget.value.trim())}
      />
    </label>
  );
}
