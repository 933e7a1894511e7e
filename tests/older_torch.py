"""What does not work beside a torch that is older than TRACED_FROM, by test: docs/install.md says it to users."""

from collections.abc import Sequence

import pytest

TRACED = "torch.compile breaks the graph at a layer, and torch.export refuses it"
WORDS = "this torch's own errors are others"
MASKS = "this torch cannot view a tensor as another dtype under vmap"
FUNC = "this torch cannot read the sizes of a packed batch under a transform"
DISTRIBUTED = "its FSDP lacks what these tests watch"
WRITTEN = "this torch shows a Function no saved tensor that was written to"
PROGRAMS = "tests/backends/test_boundary.py::test_programs_made_without_gradients_have_them_when_they_run"

LACKS = {
    "tests/ops/test_compile.py": TRACED,
    "tests/ops/test_func.py*packed": FUNC,
    "tests/ops/test_func.py::test_gradcheck_in_every_mode": "this torch warns of its own vmap",
    "tests/ops/test_step_distributed.py": DISTRIBUTED,
    "tests/ops/test_step_modes.py::test_a_compiler_leaves_torchs_gradients": TRACED,
    "tests/ops/test_step.py::test_steps_in_the_modes_of_torch": TRACED,
    "tests/ops/test_step.py::test_wrong_steps_are_refused": WORDS,
    "tests/backends/test_memory.py::test_compiled_under_autocast_and_in_half": TRACED,
    "tests/core/test_steps.py::test_steps_compile_without_a_graph_break": TRACED,
    "tests/nn/test_copies.py::test_training_in_a_child_process_is_seen_by_the_parent": TRACED,
    "tests/nn/test_hidden_sizes.py::test_modes_of_torch": TRACED,
    "tests/nn/test_hidden_sizes.py::test_it_is_exported_to_onnx": TRACED,
    "tests/nn/test_hostile.py::test_export_keeps_the_kernel_and_symbolic_sizes": TRACED,
    "tests/nn/test_hostile.py::test_second_derivatives_after_export": TRACED,
    "tests/nn/test_mask.py::test_a_mask_is_compiled": TRACED,
    f"{PROGRAMS}[export]": TRACED,
    f"{PROGRAMS}[frozen export]": TRACED,
    "tests/backends/test_layer_norm.py::test_compiled_and_exported_layers_compute_the_same": TRACED,
    "tests/nn/test_errors.py::test_errors_are_torchs[bias as int": WORDS,
    "tests/nn/test_errors.py::test_errors_are_torchs[batch_first as int": WORDS,
    "tests/nn/test_errors.py::test_errors_are_torchs[input_size of 0": WORDS,
    "tests/nn/test_errors.py::test_errors_are_torchs[cell: a tuple as state": WORDS,
    "tests/nn/test_hostile.py::test_cell_refuses_weights_and_states_of_other_shapes": WORDS,
    "tests/core/test_noise.py::test_vmap_draws_as_it_is_told": MASKS,
    "tests/core/test_torch_internals.py::test_saved_beside_output": WRITTEN,
    "tests/ops/test_written_output.py": WRITTEN,
}


def skip_what_it_lacks(items: Sequence[pytest.Item]) -> None:
    """Skip these tests, each with its reason."""
    for item in items:
        for start, reason in LACKS.items():
            first, *rest = start.split("*")
            if item.nodeid.startswith(first) and all(word in item.nodeid for word in rest):
                item.add_marker(pytest.mark.skip(reason=reason))
