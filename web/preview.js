// The live preview of a clip is an animated PNG (the host's own are JPEG stills), and an image drawn on a canvas stands still.
// A node that gets one shows its previews as the page shows animations: as an image above the canvas, which plays.

import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const HEIGHT = 220 // of a preview at least, as the page gives its stills

// "5:3" is node 3 of the subgraph that node 5 stands for: both show the preview.
function nodesOf(id) {
    const found = []
    let graph = app.graph
    for (const step of String(id).split(":")) {
        const node = graph?.getNodeById(Number(step))
        if (node) found.push(node)
        graph = node?.subgraph
    }
    return found
}

// The page asks this of a node whenever it draws it, and forgets the answer with each new preview.
function isAnimated(node) {
    const shown = node.widgets.find((widget) => widget.name === "$$comfy_animation_preview")
    if (shown) shown.options.getMinHeight ??= () => HEIGHT
    return true
}

function letPlay(node) {
    node.widgets ??= []
    Object.defineProperty(node, "animatedImages", { configurable: true, get: () => isAnimated(node), set: () => {} })
}

app.registerExtension({
    name: "dynamicrafter.preview",
    setup() {
        api.addEventListener("b_preview_with_metadata", ({ detail }) => {
            if (detail.blob.type === "image/png") nodesOf(detail.displayNodeId).forEach(letPlay)
        })
    },
})
