/** A plot of each joint: what was observed beside what was commanded, over the frames of the recording. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { useKnown } from "../context.tsx";
import { decimal, moment } from "../model/format.ts";
import { frameOf } from "../model/recording.ts";
import { type Joint, lastAtMost, type Series } from "../model/series.ts";
import type { Transport } from "../player/transport.ts";

const HEIGHT_PX = 132;
// Between the times that are written below a plot, s.
const TICKS_S = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18_000];
const TICKS = 4;
// A paused frame's exact values are asked for after this.
const SETTLED_MS = 80;

interface Props {
  sessionId: number;
  series: Series;
  fps: number;
  /** The frame at which time begins. */
  origin: number;
  transport: Transport;
  range: [number, number];
  zoomed: boolean;
  onZoom: (range: [number, number] | null) => void;
}

export interface Visible {
  state: boolean;
  action: boolean;
}

export function Plots({ sessionId, series, fps, origin, transport, range, zoomed, onZoom }: Props) {
  const { say } = useKnown();
  const [visible, setVisible] = useState<Visible>({ state: true, action: true });
  const sync = useMemo(() => uPlot.sync(`joints-${sessionId}`), [sessionId]);
  if (series.joints.length === 0 || series.frames.length === 0) {
    return <p class="quiet nothing">{say("noJoints")}</p>;
  }
  return (
    <section class="plots" aria-label={say("joints")}>
      <header>
        <h2>{say("joints")}</h2>
        <label class="series state">
          <input
            type="checkbox"
            checked={visible.state}
            aria-label={say("showObservation")}
            onChange={() => setVisible({ ...visible, state: !visible.state })}
          />
          {say("observation")}
        </label>
        <label class="series action">
          <input
            type="checkbox"
            checked={visible.action}
            aria-label={say("showAction")}
            onChange={() => setVisible({ ...visible, action: !visible.action })}
          />
          {say("action")}
        </label>
        {zoomed && (
          <button type="button" onClick={() => onZoom(null)}>
            {say("zoomOut")}
          </button>
        )}
        <small class="quiet">{series.thinned ? say("thinned") : say("zoomHint")}</small>
      </header>
      <div class="grid">
        {series.joints.map((joint, at) => (
          <article key={joint.name}>
            <h3>
              {joint.name}
              <Values {...{ sessionId, series, at, transport }} />
            </h3>
            <Plot {...{ joint, series, fps, origin, transport, range, onZoom, visible, sync }} />
          </article>
        ))}
      </div>
    </section>
  );
}

interface ValuesProps {
  sessionId: number;
  series: Series;
  /** Of its joints. */
  at: number;
  transport: Transport;
}

/** A joint's values at the present frame: those drawn while it moves, then exactly that frame's. */
function Values({ sessionId, series, at, transport }: ValuesProps) {
  const { language } = useKnown();
  const state = useRef<HTMLSpanElement>(null);
  const action = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let closed = false;
    const show = (found: Series, frame: number) => {
      const row = Math.max(0, lastAtMost(found.frames, frame));
      state.current!.textContent = decimal(found.joints[at]?.state?.[row] ?? null, language);
      action.current!.textContent = decimal(found.joints[at]?.action?.[row] ?? null, language);
    };
    const leave = transport.follow((frame) => {
      show(series, frame);
      clearTimeout(timer);
      if (!series.thinned) return;
      timer = setTimeout(async () => {
        const exact = await frameOf(sessionId, frame).catch(() => null);
        if (!closed && exact && exact.frames[0] === transport.frame) show(exact, frame);
      }, SETTLED_MS);
    });
    return () => {
      closed = true;
      clearTimeout(timer);
      leave();
    };
  }, [sessionId, series, at, transport, language]);
  return (
    <span class="values">
      <span ref={state} class="state" />
      <span ref={action} class="action" />
    </span>
  );
}

interface PlotProps {
  joint: Joint;
  series: Series;
  fps: number;
  origin: number;
  transport: Transport;
  range: [number, number];
  onZoom: (range: [number, number] | null) => void;
  visible: Visible;
  sync: uPlot.SyncPubSub;
}

function Plot({ joint, series, fps, origin, transport, range, onZoom, visible, sync }: PlotProps) {
  const { colours, say } = useKnown();
  const place = useRef<HTMLDivElement>(null);
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const [first, end] = range;

  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours are read from the page
  useEffect(() => {
    const element = place.current!;
    const head = document.createElement("div");
    head.className = "head";
    const plot = new uPlot(
      optionsOf(element, fps, origin, [first, end], visible, sync, (chosen) => zoom.current(chosen)),
      [series.frames, joint.state ?? [], joint.action ?? []] as unknown as uPlot.AlignedData,
      element,
    );
    plot.over.append(head);
    const follow = (frame: number) => {
      const at = plot.valToPos(frame, "x");
      head.style.transform = `translateX(${Math.round(at)}px)`;
      head.hidden = frame < first || frame >= end;
    };
    const leave = transport.follow(follow);
    const clicked = (event: MouseEvent) => {
      const box = plot.over.getBoundingClientRect();
      transport.pause();
      transport.seek(plot.posToVal(event.clientX - box.left, "x"));
    };
    const out = () => zoom.current(null);
    plot.over.addEventListener("click", clicked);
    plot.over.addEventListener("dblclick", out);
    const watch = new ResizeObserver(() => {
      plot.setSize({ width: element.clientWidth, height: HEIGHT_PX });
      follow(transport.frame);
    });
    watch.observe(element);
    return () => {
      leave();
      watch.disconnect();
      plot.destroy();
    };
  }, [joint, series, fps, origin, transport, first, end, visible, sync, colours]);

  return <div ref={place} class="plot" role="img" aria-label={say("plotOf", { name: joint.name })} />;
}

/** Frames at round times, a few of them. */
function timesIn(from: number, to: number, origin: number, fps: number): number[] {
  const step = (TICKS_S.find((each) => (to - from) / (each * fps) <= TICKS) ?? TICKS_S.at(-1)!) * fps;
  const begin = origin + Math.ceil((from - origin) / step) * step;
  return Array.from({ length: Math.floor((to - begin) / step) + 1 }, (_, at) => begin + at * step);
}

function optionsOf(
  element: HTMLElement,
  fps: number,
  origin: number,
  [first, end]: [number, number],
  visible: Visible,
  sync: uPlot.SyncPubSub,
  onZoom: (range: [number, number]) => void,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--ink-3"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  return {
    width: Math.max(80, element.clientWidth),
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: {
      points: { show: false },
      y: false,
      drag: { x: true, y: false, setScale: false, dist: 6 },
      sync: { key: sync.key, setSeries: false },
    },
    scales: { x: { time: false, min: first, max: Math.max(first + 1, end - 1), auto: false } },
    axes: [
      {
        ...axis,
        size: 22,
        splits: (_plot, _axis, from, to) => timesIn(from, to, origin, fps),
        values: (_plot, splits) => splits.map((frame) => moment((frame - origin) / fps).replace(/\.00$/, "")),
      },
      { ...axis, size: 44, space: 28 },
    ],
    series: [
      {},
      { show: visible.state, stroke: colour("--state"), width: 1.5, points: { show: false } },
      {
        show: visible.action,
        stroke: colour("--action"),
        width: 1.25,
        dash: [5, 3],
        points: { show: false },
      },
    ],
    hooks: {
      setSelect: [
        (plot) => {
          if (plot.select.width < 6) return;
          const from = Math.floor(plot.posToVal(plot.select.left, "x"));
          const to = Math.ceil(plot.posToVal(plot.select.left + plot.select.width, "x"));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          if (to - from >= 4) onZoom([from, to]);
        },
      ],
    },
  };
}
