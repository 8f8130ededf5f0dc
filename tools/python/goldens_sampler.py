"""Golden numbers of diffusers' schedulers, for tests/sampler.rs.

    python tools/python/goldens_sampler.py [OUT]        (default: tests/golden/sampler)

Every run starts from fixed latents, calls a closed-form model and gets its noise from a closed-form sequence, all spelled the
same way in tests/sampler.rs; nothing here is random. A combination that diffusers raises on, or that it turns into NaN, is
listed under "refused" with the reason.
"""

import contextlib
import json
import math
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.schedulers import (
    scheduling_consistency_models,
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_flow_match_euler_discrete,
    scheduling_lcm,
    scheduling_tcd,
)

LIMIT = 64 * 1024
SIZE = 24
STEPS = [1, 2, 4, 8, 20]
PREDICTIONS = ["epsilon", "v_prediction", "sample", "flow_prediction"]
SPACINGS = ["leading", "trailing", "linspace"]
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

CLASSES = {
    "euler": scheduling_euler_discrete.EulerDiscreteScheduler,
    "euler_a": scheduling_euler_ancestral_discrete.EulerAncestralDiscreteScheduler,
    "ddim": scheduling_ddim.DDIMScheduler,
    "ddpm": scheduling_ddpm.DDPMScheduler,
    "dpm++2m": scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler,
    "lcm": scheduling_lcm.LCMScheduler,
    "tcd": scheduling_tcd.TCDScheduler,
    "flow": scheduling_flow_match_euler_discrete.FlowMatchEulerDiscreteScheduler,
}


def f32(values):
    return torch.tensor(values, dtype=torch.float64).to(torch.float32)


def start():
    return f32([1.3 * math.sin(2.1 * j + 0.5) for j in range(SIZE)])


def clean():
    return f32([0.8 * math.cos(0.9 * j + 0.2) for j in range(SIZE)])


def model(x, t):
    """Non-linear in x and dependent on t; f64 inside, f32 outside."""
    t = float(t)
    gain = 0.6 + 0.4 * math.cos(0.005 * t)
    return f32([gain * math.tanh(0.9 * float(v) + 0.3 * math.sin(0.01 * t + 0.7 * j)) for j, v in enumerate(x)])


class Sequence:
    """Stands in for randn_tensor: draw k, value j."""

    def __init__(self):
        self.draws = 0

    def __call__(self, shape, **_):
        first = self.draws * SIZE
        self.draws += 1
        return f32([1.4 * math.sin(1.7 * (first + j) + 0.3) for j in range(SIZE)]).reshape(shape)


def install(sequence):
    for cls in CLASSES.values():
        sys.modules[cls.__module__].randn_tensor = sequence


def begin_index(kind, steps, strength):
    """get_timesteps of pipeline_stable_diffusion_img2img.py and pipeline_stable_diffusion_3_img2img.py."""
    if kind == "flow":
        return int(max(steps - min(steps * strength, steps), 0))
    return max(steps - min(int(steps * strength), steps), 0)


def prepare(kind, config, steps, strength=1.0, mu=None):
    scheduler = CLASSES[kind](**config)
    begin = 0
    if kind in ("lcm", "tcd"):
        scheduler.set_timesteps(steps, strength=strength)
    elif kind == "flow":
        scheduler.set_timesteps(steps, mu=mu)
        begin = begin_index(kind, steps, strength)
    else:
        scheduler.set_timesteps(steps)
        begin = begin_index(kind, steps, strength)
    # Without it a scheduler that finds its first timestep twice starts at the second, and runs out of noise levels.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler, begin


def first_latents(kind, scheduler, begin, strength):
    if strength == 1.0:
        return start() * getattr(scheduler, "init_noise_sigma", 1.0)
    t = scheduler.timesteps[begin : begin + 1]
    if kind == "flow":
        return scheduler.scale_noise(clean(), t, start())
    return scheduler.add_noise(clean(), start(), t)


def loop(scheduler, begin, x, extra):
    for t in scheduler.timesteps[begin:]:
        inputs = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = model(inputs, t).to(x.dtype)
        # Schedulers look at dimension 1 for learned variances.
        x = scheduler.step(output[None], t, x[None], return_dict=False, **extra)[0][0]
    return x


@contextlib.contextmanager
def double(scheduler):
    """Lets a scheduler that casts samples to f32 work in f64, from the same f32 schedule."""
    original = torch.Tensor.to
    torch.Tensor.to = lambda self, *args, **kwargs: self if args == (torch.float32,) else original(self, *args, **kwargs)
    scheduler.sigmas = scheduler.sigmas.double()
    try:
        yield
    finally:
        torch.Tensor.to = original


def run(kind, config, steps, eta=None, strength=1.0, mu=None):
    install(Sequence())
    scheduler, begin = prepare(kind, config, steps, strength, mu)
    first = first_latents(kind, scheduler, begin, strength)
    extra = {} if eta is None else {"eta": eta}
    x = loop(scheduler, begin, first, extra)
    if not bool(torch.isfinite(x).all()):
        raise ArithmeticError("the result is not finite")
    out = {
        "timesteps": numbers(scheduler.timesteps[begin:]),
        "init_noise_sigma": number(getattr(scheduler, "init_noise_sigma", 1.0)),
        "final": numbers(x),
    }
    if kind in ("euler", "euler_a") and config.get("rescale_betas_zero_snr"):
        install(Sequence())
        scheduler, begin = prepare(kind, config, steps, strength, mu)
        with double(scheduler):
            out["final_f64"] = numbers(loop(scheduler, begin, first.double(), extra))
    if strength != 1.0:
        out["first"] = numbers(first)
    if hasattr(scheduler, "sigmas"):
        # Interpolation in log sigma appends a last one to a list that has it already.
        out["sigmas"] = numbers(scheduler.sigmas[begin : len(scheduler.timesteps)])
    return out


def number(value):
    value = float(value)
    return int(value) if value == int(value) and abs(value) < 2**53 else float(np.format_float_positional(np.float32(value), unique=True))


def numbers(values):
    return [number(v) for v in values]


class Golden:
    """The cases of one file."""

    def __init__(self, kind):
        self.kind, self.cases, self.refused = kind, [], []

    def add(self, config, steps=STEPS, spacings=None, **options):
        for n in steps:
            case = {"config": config, "steps": n, **options}
            if spacings:
                case["spacings"] = spacings
            try:
                self.cases.append({**case, **self.agreeing(config, n, spacings, options)})
            except Exception as error:
                self.refused.append({**case, "why": f"{type(error).__name__}: {error}"[:100]})

    def agreeing(self, config, n, spacings, options):
        if not spacings:
            return run(self.kind, config, n, **options)
        results = [run(self.kind, {**config, "timestep_spacing": s}, n, **options) for s in spacings]
        assert all(r == results[0] for r in results), "spacing changes the result"
        return results[0]

    def grid(self, base, steps=STEPS, predictions=PREDICTIONS, spacings=SPACINGS, **options):
        for prediction in predictions:
            for spacing in spacings:
                self.add({**base, "prediction_type": prediction, "timestep_spacing": spacing}, steps, **options)


def write(directory, name, content):
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    head = json.dumps({"made_by": "tools/python/goldens_sampler.py", "versions": versions})[:-1]
    parts = [f'"{key}": [\n' + ",\n".join(compact(row) for row in rows) + "\n]" if isinstance(rows, list) else f'"{key}": {compact(rows)}'
             for key, rows in content.items()]
    path = directory / f"{name}.json"
    path.write_text(head + ",\n" + ",\n".join(parts) + "}\n")
    size = path.stat().st_size
    assert size <= LIMIT, f"{path} has {size} bytes"
    print(f"{path.name}: {size} bytes, " + ", ".join(f"{len(rows)} {key}" for key, rows in content.items() if isinstance(rows, list)))


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def save(directory, name, golden):
    json_rows = {"cases": golden.cases, "refused": golden.refused}
    write(directory, name, {"sampler": golden.kind, **json_rows})


def euler(out):
    offset = {**BETAS, "steps_offset": 1}
    g = Golden("euler")
    g.grid(offset)
    save(out, "euler", g)

    g = Golden("euler")
    g.grid({**offset, "use_karras_sigmas": True}, predictions=["epsilon"])
    g.grid({**offset, "use_karras_sigmas": True}, [8], ["v_prediction", "sample"])
    g.grid({**offset, "use_exponential_sigmas": True}, [2, 8], ["epsilon"])
    g.grid({**offset, "interpolation_type": "log_linear"}, [4, 20], ["epsilon"], ["leading", "linspace"])
    g.grid({**offset, "final_sigmas_type": "sigma_min"}, [4], ["epsilon"])
    g.grid({**offset, "final_sigmas_type": "sigma_min", "use_karras_sigmas": True}, [8], ["epsilon"])
    g.grid({**offset, "use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0}, [8], ["epsilon"])
    g.grid({**offset, "use_karras_sigmas": True, "interpolation_type": "log_linear"}, [8], ["epsilon"], ["leading"])
    g.grid({**offset, "use_karras_sigmas": True, "timestep_type": "continuous"}, [8], ["v_prediction"], ["leading"])
    for schedule in ("linear", "squaredcos_cap_v2"):
        g.grid({**offset, "beta_schedule": schedule}, [8], ["epsilon"])
    for strength in (0.3, 0.5, 0.75, 0.99):
        g.grid(offset, [4, 8], ["epsilon"], strength=strength)
    g.grid(offset, [1], ["epsilon"], ["trailing"], strength=0.5)
    save(out, "euler_variants", g)

    g = Golden("euler")
    g.grid({**offset, "rescale_betas_zero_snr": True})
    save(out, "euler_zero_snr", g)


def euler_a(out):
    offset = {**BETAS, "steps_offset": 1}
    g = Golden("euler_a")
    g.grid(offset)
    g.grid({**offset, "beta_schedule": "squaredcos_cap_v2"}, [8], ["epsilon"])
    for strength in (0.5, 0.75):
        g.grid(offset, [4, 8], ["epsilon"], strength=strength)
    save(out, "euler_a", g)

    g = Golden("euler_a")
    g.grid({**offset, "rescale_betas_zero_snr": True})
    save(out, "euler_a_zero_snr", g)


def ddim(out):
    base = {**BETAS, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
    g = Golden("ddim")
    g.grid(base)
    save(out, "ddim", g)

    g = Golden("ddim")
    for eta in (0.5, 1.0):
        g.grid(base, [2, 8], eta=eta)
    g.grid({**base, "set_alpha_to_one": True, "steps_offset": 0}, [1, 4], ["epsilon", "v_prediction"])
    g.grid({**base, "clip_sample": True}, [4], ["epsilon", "v_prediction", "sample"])
    g.grid({**base, "clip_sample": True, "clip_sample_range": 0.4}, [8], ["epsilon", "sample"])
    for schedule in ("linear", "squaredcos_cap_v2"):
        g.grid({**base, "beta_schedule": schedule}, [8], ["epsilon"])
    g.grid({**base, "num_train_timesteps": 500}, [8], ["epsilon"])
    for strength in (0.3, 0.5, 0.75, 0.99):
        g.grid(base, [4, 8], ["epsilon"], strength=strength)
    g.grid(base, [1001], ["epsilon"], ["leading"])
    save(out, "ddim_variants", g)

    g = Golden("ddim")
    g.grid({**base, "rescale_betas_zero_snr": True})
    g.grid({**base, "rescale_betas_zero_snr": True}, [8], eta=1.0)
    save(out, "ddim_zero_snr", g)


def ddpm(out):
    base = {**BETAS, "steps_offset": 1, "clip_sample": False}
    g = Golden("ddpm")
    g.grid(base)
    save(out, "ddpm", g)

    g = Golden("ddpm")
    for variance in ("fixed_small_log", "fixed_large", "fixed_large_log"):
        g.grid({**base, "variance_type": variance}, [4], ["epsilon"])
    g.grid({**base, "clip_sample": True}, [4, 8], ["epsilon", "v_prediction", "sample"])
    g.grid({**base, "steps_offset": 0}, [2, 8], ["epsilon"], ["leading"])
    for schedule in ("linear", "squaredcos_cap_v2"):
        g.grid({**base, "beta_schedule": schedule}, [8], ["epsilon"])
    for strength in (0.5, 0.75):
        g.grid(base, [4, 8], ["epsilon"], strength=strength)
    save(out, "ddpm_variants", g)

    g = Golden("ddpm")
    g.grid({**base, "rescale_betas_zero_snr": True})
    save(out, "ddpm_zero_snr", g)


def solver(out):
    base = {**BETAS, "steps_offset": 1}
    g = Golden("dpm++2m")
    g.grid(base)
    save(out, "dpmpp_2m", g)

    g = Golden("dpm++2m")
    g.grid({**base, "use_karras_sigmas": True}, predictions=["epsilon"], spacings=["leading"])
    g.grid({**base, "use_karras_sigmas": True}, [8], ["v_prediction", "sample"], ["linspace"])
    g.grid({**base, "use_exponential_sigmas": True}, [4, 8, 20], ["epsilon"], ["linspace"])
    g.grid({**base, "use_lu_lambdas": True}, [4, 8, 20], ["epsilon"], ["linspace"])
    for shift in (1.0, 3.0):
        g.grid({**base, "use_flow_sigmas": True, "flow_shift": shift}, predictions=["flow_prediction"], spacings=["linspace"])
    g.grid({**base, "solver_order": 1}, [4, 20], ["epsilon"], ["trailing"])
    g.grid({**base, "solver_type": "heun"}, [4, 8, 20], ["epsilon"], ["trailing"])
    for solver_type in ("midpoint", "heun"):
        sde = {**base, "algorithm_type": "sde-dpmsolver++", "solver_type": solver_type}
        g.grid(sde, [1, 4, 20], ["epsilon", "v_prediction"], ["trailing"])
    for algorithm in ("dpmsolver", "sde-dpmsolver"):
        g.grid({**base, "algorithm_type": algorithm}, [4], ["epsilon"], ["trailing"])
    minimum = {**base, "final_sigmas_type": "sigma_min"}
    g.grid(minimum, [4, 20], ["epsilon"])
    g.grid(minimum, [14, 15], ["epsilon"], ["trailing"])
    g.grid({**minimum, "lower_order_final": False}, [4, 8], ["epsilon"], ["trailing"])
    g.grid({**minimum, "euler_at_final": True}, [20], ["epsilon"], ["trailing"])
    g.grid({**minimum, "use_karras_sigmas": True}, [8], ["epsilon"], ["trailing"])
    g.grid({**base, "beta_schedule": "linear"}, [8], ["epsilon"])
    g.grid({**base, "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}, [8], ["epsilon"])
    for curve in ("use_karras_sigmas", "use_lu_lambdas", "use_exponential_sigmas"):
        g.grid({**base, "beta_schedule": "squaredcos_cap_v2", curve: True}, [8], ["epsilon"], ["leading"])
    for strength in (0.3, 0.5, 0.75, 0.99):
        g.grid(base, [4, 8], ["epsilon"], strength=strength)
    save(out, "dpmpp_2m_variants", g)

    g = Golden("dpm++2m")
    g.grid({**base, "rescale_betas_zero_snr": True}, predictions=PREDICTIONS[:3])
    save(out, "dpmpp_2m_zero_snr", g)


def distilled(out, kind):
    g = Golden(kind)
    for prediction in PREDICTIONS:
        g.add({"prediction_type": prediction}, STEPS + [6, 50, 51], SPACINGS)
    for original in (25, 30, 100, 0, 1001):
        g.add({"original_inference_steps": original}, [2, 4, 25])
    for strength in (0.25, 0.5, 0.75, 0.01):
        g.add({}, [1, 4, 8], strength=strength)
    g.add({"clip_sample": True, "clip_sample_range": 0.7}, [4])
    g.add({"beta_schedule": "squaredcos_cap_v2"}, [4])
    if kind == "lcm":
        g.add({"timestep_scaling": 0.01}, [1, 4, 8])
        g.add({"clip_sample": True}, [1, 4])
    else:
        for eta in (0.0, 0.2, 0.5, 0.9, 1.0):
            g.add({}, [1, 4, 8], eta=eta)
        g.add({}, [4], eta=1.5)
    for prediction in PREDICTIONS[:3]:
        g.add({"prediction_type": prediction, "rescale_betas_zero_snr": True}, [1, 2, 4, 8])
    save(out, kind, g)


def flow(out):
    g = Golden("flow")
    g.add({})
    g.add({"shift": 3.0})
    g.add({"shift": 0.5}, [4])
    dynamic = {"use_dynamic_shifting": True}
    g.add(dynamic, mu=0.8)
    g.add({**dynamic, "time_shift_type": "linear"}, [1, 4, 8], mu=1.7)
    g.add(dynamic, [4])
    g.add({"shift": 3.0, "shift_terminal": 0.1}, [1, 4, 8])
    for curve in ("use_karras_sigmas", "use_exponential_sigmas"):
        g.add({"shift": 3.0, curve: True}, [1, 4, 8])
    g.add({"stochastic_sampling": True})
    for strength in (0.3, 0.5, 0.6, 0.75, 0.99):
        g.add({"shift": 3.0}, [4, 8], strength=strength)
    save(out, "flow", g)


def integer_grids(out):
    """For every number of steps, the sum of (i + 1)·timestep[i]: rounding traps hide at odd step counts."""
    rows = []
    for kind in ("ddim", "dpm++2m"):
        for spacing in SPACINGS:
            sums, below = [], []
            for n in range(1, 1001):
                scheduler = CLASSES[kind](**BETAS, timestep_spacing=spacing)
                scheduler.set_timesteps(n)
                timesteps = scheduler.timesteps.tolist()
                # np.arange counts one too far for these n, and the model is called at timestep -1.
                if timesteps[-1] < 0:
                    below.append(n)
                    timesteps.pop()
                assert len(timesteps) == n
                sums.append(sum((i + 1) * t for i, t in enumerate(timesteps)))
            rows.append({"sampler": kind, "spacing": spacing, "below_zero": below, "sums": sums})
    for kind in ("lcm", "tcd"):
        sums = []
        for n in range(1, 51):
            scheduler = CLASSES[kind]()
            scheduler.set_timesteps(n)
            sums.append(sum((i + 1) * t for i, t in enumerate(scheduler.timesteps.tolist())))
        rows.append({"sampler": kind, "spacing": "leading", "below_zero": [], "sums": sums})
    for row in rows:
        row["sums"] = deltas(row["sums"])
    return rows


def deltas(values):
    """Differences are shorter to write."""
    return [b - a for a, b in zip([0] + values, values)]


def schedules():
    rows = []
    for schedule in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        for zero_snr in (False, True):
            for train in (1000, 250):
                config = {**BETAS, "beta_schedule": schedule, "rescale_betas_zero_snr": zero_snr, "num_train_timesteps": train}
                scheduler = CLASSES["ddim"](**config)
                at = sorted({*range(0, train, 41), 1, 2, *range(train - 6, train)})
                rows.append({"config": config, "at": at, "alphas_cumprod": [float(f"{float(scheduler.alphas_cumprod[t]):.9g}") for t in at]})
    return rows


def plain(value):
    return value if not isinstance(value, float) or math.isfinite(value) else None


def defaults():
    return [
        {"sampler": kind, "config": {k: plain(v) for k, v in cls().config.items() if not k.startswith("_")}}
        for kind, cls in CLASSES.items()
    ]


def embeddings():
    pipeline = diffusers.LatentConsistencyModelPipeline
    rows = []
    for scale in (1.0, 1.5, 7.5, 8.0):
        for dim in (2, 5, 16, 256):
            w = torch.tensor(scale - 1.0).repeat(1)
            values = pipeline.get_guidance_scale_embedding(None, w, embedding_dim=dim)[0]
            if bool(torch.isfinite(values).all()):
                rows.append({"scale": scale, "values": [round(float(v), 6) for v in values]})
    return rows


def consistency():
    """CMStochasticIterativeScheduler: its model is preconditioned, as in tests/sampler.rs."""
    rows = []
    module = scheduling_consistency_models
    for steps in (1, 2, 4, 8):
        module.randn_tensor = Sequence()
        scheduler = module.CMStochasticIterativeScheduler()
        scheduler.set_timesteps(steps)
        x = start() * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, return_dict=False)[0]
        rows.append({
            "timesteps": [float(t) for t in scheduler.timesteps],
            "sigmas": numbers(scheduler.sigmas[:-1]),
            "sigma_min": scheduler.config.sigma_min,
            "sigma_data": scheduler.config.sigma_data,
            "final": numbers(x),
        })
    return rows


def main():
    torch.set_num_threads(1)
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "tests/golden/sampler")
    out.mkdir(parents=True, exist_ok=True)
    euler(out)
    euler_a(out)
    ddim(out)
    ddpm(out)
    solver(out)
    distilled(out, "lcm")
    distilled(out, "tcd")
    flow(out)
    write(out, "grids", {"grids": integer_grids(out)})
    write(out, "schedules", {"schedules": schedules()})
    write(out, "defaults", {"defaults": defaults()})
    write(out, "embeddings", {"embeddings": embeddings()})
    write(out, "consistency", {"runs": consistency()})


if __name__ == "__main__":
    main()
