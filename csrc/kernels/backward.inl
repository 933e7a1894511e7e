// Backpropagation through time of one layer, a chunk of steps after the other, last step first (reverse
// direction: first step first). For each chunk: the gates' gradients step by step; then, with the chunk's
// gradients still in cache, dx and what the chunk adds to the weights' gradients. Nothing the forward pass
// saved is written to.
//
//     dh(t - 1) = u + W_hh^T (dr, dz, dq)          dx = W_ih^T (dr, dz, dn)
//
// with u and the gates' gradients as in gate_gradients.inl. Form::normed: (dr, dz, dq) and (dr, dz, dn) go through
// their norms before they are multiplied. Form::before: dh(t - 1) = u + p * r + W_hr^T dr + W_hz^T dz.
#pragma once

#include "backward_steps.inl"
#include "chunk_panels.inl"
#include "gradient_sums.inl"
#include "input_gradient.inl"
#include "step_backward.inl"
#include "weight_gradients.inl"

namespace fastgru {
namespace {

// One thread's part in one direction.
template <class Operands, Form kForm>
class BackwardWorker {
  using Real = typename Operands::Real;

 public:
  BackwardWorker(const BackwardArgs<Real>& args, const BackwardWorkspace<Real>& work, const Group& group,
                 const Team& team, int64_t direction) noexcept
      : p_(args, work, group, direction), team_(team) {}

  void run() noexcept {
    prepare();
    for (int64_t begin = 0; begin < p_.a.steps.B; begin += p_.work.batch) {
      p_.take_batch({begin, min_of(p_.a.steps.B, begin + p_.work.batch)});
      run_batch();
    }
    sums_.write();
    initial_.write();
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  void prepare() noexcept {
    const Group& group = p_.group;
    const int64_t I = p_.a.I, H = p_.a.H;
    const auto own = [&](int64_t panels) { return part_of({0, panels}, group.index, group.size); };
    Operands::pack(p_.parameters.w_hh, H, H, 0, own(p_.work.h_panels), p_.work.w_hh);
    if (p_.a.dx.data) Operands::pack(p_.parameters.w_ih, H, I, 2 * H, own(p_.work.x_panels), p_.work.w_ih);
    sums_.clear();
    initial_.clear();
    wait_for(group);
  }

  void run_batch() noexcept {
    steps_.begin_batch();
    // Both directions add to dx. Each writes the half of the rows that it comes to first and adds to the
    // other, which it begins only when both are through with the first half.
    const bool crosses = p_.group.groups == 2;
    const int64_t T = p_.a.steps.T, middle = crosses ? middle_step() : T;
    bool crossed = !crosses;
    Chunk chunk{0, 0, 0, 0};
    for (int64_t s = 0; s < T; s = chunk.end) {
      chunk = next_chunk(s, crosses && s < middle ? middle : T, chunk.buffer ^ 1);
      run_steps(chunk);
      panels_.pack(chunk);
      wait_for(p_.group);
      if (!crossed && s >= middle) cross(crossed);
      add_to_weights(chunk);
      if (p_.a.dx.data) dx_.write(chunk, crosses ? s >= middle : p_.d == 1);
    }
    if (!crossed) cross(crossed);
    if (p_.a.dh0 || p_.a.dinitial) steps_.step(T, nullptr);
    wait_for(p_.group);
  }

  void run_steps(const Chunk& chunk) noexcept {
    Real* dgates = p_.work.buffers[chunk.buffer].dgates;
    for (int64_t s = chunk.begin; s < chunk.end; ++s) {
      steps_.step(s, dgates);
      dgates += p_.active(s) * p_.work.ldg;
      if (p_.units_split) wait_for(p_.group);
    }
  }

  void add_to_weights(const Chunk& chunk) noexcept {
    for (int64_t gate = 0; gate < 4; ++gate) {  // n r z q
      weights_.add(chunk, gate);
      sums_.add_bias(chunk, gate);
    }
    sums_.add_gains(chunk);
  }

  // Where the first so many steps of all have half of the batch's rows: half of the steps, or fewer where sequences
  // end early. In the order of this direction's steps.
  int64_t middle_step() const noexcept {
    const int64_t T = p_.a.steps.T;
    int64_t rows = 0, steps = 0;
    for (int64_t t = 0; t < T; ++t) rows += p_.rows_of(t);
    for (int64_t before = 0; 2 * before < rows; ++steps) before += p_.rows_of(steps);
    return p_.d ? steps : T - steps;
  }

  void cross(bool& crossed) const noexcept {
    crossed = true;
    wait_at(*team_.all, static_cast<int32_t>(2 * p_.group.size));
  }

  Chunk next_chunk(int64_t begin, int64_t limit, int buffer) const noexcept {
    Chunk chunk{begin, begin, 0, buffer};
    const int64_t most = p_.pipelined ? kPipelinedRows : p_.work.chunk;
    while (chunk.end < limit && chunk.rows + p_.active(chunk.end) <= most) chunk.rows += p_.active(chunk.end++);
    return chunk;
  }

  BackwardPart<Real> p_;
  const Team& team_;
  InitialGradient<Real> initial_{p_};
  BackwardSteps<Operands, kForm> steps_{p_, initial_};
  ChunkPanels<Operands, kForm> panels_{p_};
  WeightGradients<Operands, kForm> weights_{p_};
  GradientSums<Real, kForm> sums_{p_};
  InputGradient<Operands, kForm> dx_{p_};
};

template <class Operands, class Real>
int64_t directions_backward_scratch(const BackwardArgs<Real>& a, int32_t threads) noexcept {
  const Group group = group_of(Team{0, threads, nullptr, {nullptr, nullptr}}, a.D);
  return group.groups * BackwardWorkspace<Real>(Operands(), a, group, nullptr).elements;
}

template <class Operands, class Real>
void backward_directions(const BackwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  const Group group = group_of(team, a.D);
  if (group.index >= group.size) return;
  const int64_t elements = BackwardWorkspace<Real>(Operands(), a, group, nullptr).elements;
  const BackwardWorkspace<Real> work(Operands(), a, group, scratch + group.group * elements);
  for (int64_t d = group.directions.begin; d < group.directions.end; ++d) {
    if (a.form == Form::before) {
      BackwardWorker<Operands, Form::before>(a, work, group, team, d).run();
    } else if (a.form == Form::normed) {
      BackwardWorker<Operands, Form::normed>(a, work, group, team, d).run();
    } else {
      BackwardWorker<Operands, Form::after>(a, work, group, team, d).run();
    }
  }
}

template <class Real>
int64_t backward_scratch(const BackwardArgs<Real>& a, int32_t threads) noexcept {
  if (is_single_step(a)) return step_backward_scratch(a, threads);
  return directions_backward_scratch<RealOperands<Real>>(a, threads);
}

template <class Real>
void backward(const BackwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  if (is_single_step(a)) return single_step_backward(a, scratch, team);
  backward_directions<RealOperands<Real>>(a, scratch, team);
}

template <class Real>
int32_t backward_threads(const BackwardArgs<Real>& a, int32_t available) noexcept {
  const int64_t work = a.steps.T * a.steps.B * a.D * 6 * a.H * (a.I + a.H);
  if (is_single_step(a)) return step_threads(a, available);
  return work < 400000 ? 1 : available;
}

}  // namespace
}  // namespace fastgru
