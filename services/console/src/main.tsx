import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style/tokens.css";
import "./style/page.css";
import "./style/player.css";
import "./style/lists.css";
import { App } from "./app.tsx";

render(<App />, document.body);
