"""The exact list of torch's operators that a graph or TorchScript code in a file may ask for.

Each computes tensors or numbers from tensors and numbers and checks the bounds of what it is given;
none touches files, processes, devices' settings, random seeds or memory it does not own. What is
not named here is refused, whatever it does.
"""

from __future__ import annotations

# Written in place too (with a "_" behind) where torch has that.
_ELEMENTWISE = """
abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr alpha_dropout arccos arccosh
arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh baddbmm bernoulli bitwise_and
bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp
clamp_max clamp_min clip copysign cos cosh cumprod cumsum deg2rad detach digamma div divide
dropout elu eq erf erfc erfinv exp exp2 expm1 exponential feature_alpha_dropout feature_dropout
fill fill_diagonal fix float_power floor floor_divide fmod frac gcd ge gelu greater
greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot i0 index_add
index_copy index_fill index_put index_reduce lcm ldexp leaky_relu lerp less less_equal lgamma
log log10 log1p log2 logical_and logical_not logical_or logical_xor logit lt le masked_fill
masked_scatter mish mul multiply mvlgamma nan_to_num ne neg negative nextafter normal not_equal
polygamma pow prelu rad2deg reciprocal relu relu6 remainder renorm round rrelu rsqrt rsub
scatter scatter_add scatter_reduce selu sgn sigmoid sign silu sin sinc sinh sqrt square squeeze
sub subtract swapaxes swapdims t tan tanh threshold transpose tril triu true_divide trunc
uniform unsqueeze xlogy zero
"""
_OTHER = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d adjoint affine_grid_generator alias alias_copy all
allclose amax amin aminmax angle any arange argmax argmin argsort argwhere as_strided
as_strided_copy atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d
bartlett_window batch_norm bilinear binary_cross_entropy binary_cross_entropy_with_logits
bincount blackman_window block_diag bmm broadcast_tensors broadcast_to bucketize cartesian_prod
cat cdist chain_matmul channel_shuffle cholesky cholesky_inverse cholesky_solve chunk clone
col2im column_stack combinations complex concat concatenate conj conj_physical constant_pad_nd
contiguous conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d
convolution copy copy_ corrcoef cosine_embedding_loss cosine_similarity count_nonzero cov cross
cross_entropy_loss ctc_loss cummax cummin cumulative_trapezoid det detach_copy diag diag_embed
diagflat diagonal diagonal_copy diagonal_scatter diff dim dist dot dsplit dstack einsum
element_size embedding embedding_bag empty empty_like empty_permuted empty_strided equal expand
expand_as expand_copy eye fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_ifft
fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2
fft_rfftfreq fft_rfftn flatten flip fliplr flipud fmax fmin frobenius_norm full full_like gather
ger glu gradient grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell
hamming_window hann_window hinge_embedding_loss histc hsplit hstack huber_loss im2col imag index
index_select inner instance_norm inverse is_complex is_floating_point is_nonzero is_same_size
is_signed isclose isfinite isin isinf isnan isneginf isposinf isreal istft item kaiser_window
kl_div kron kthvalue l1_loss layer_norm lift_fresh lift_fresh_copy linalg_cholesky linalg_cond
linalg_cross linalg_det linalg_diagonal linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh
linalg_inv linalg_lstsq linalg_lu linalg_matmul linalg_matrix_exp linalg_matrix_norm
linalg_matrix_power linalg_matrix_rank linalg_multi_dot linalg_norm linalg_pinv linalg_qr
linalg_slogdet linalg_solve linalg_solve_triangular linalg_svd linalg_svdvals linalg_vander
linalg_vecdot linalg_vector_norm linear linspace log_sigmoid log_softmax logaddexp logaddexp2
logcumsumexp logdet logspace logsumexp lstm lstm_cell mH mT margin_ranking_loss masked_select
matmul matrix_H matrix_exp matrix_power max max_pool1d max_pool1d_with_indices max_pool2d
max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum
mean median meshgrid min minimum mm mode moveaxis movedim mse_loss msort multi_margin_loss
multilabel_margin_loss multinomial mv nanmean nanmedian nanquantile nansum narrow narrow_copy
native_batch_norm native_channel_shuffle native_dropout native_group_norm native_layer_norm
native_norm new_empty new_empty_strided new_full new_ones new_zeros nll_loss nll_loss2d
nll_loss2d_forward nll_loss_forward nll_loss_nd nonzero nonzero_numpy nonzero_static norm
norm_except_dim normal_functional nuclear_norm numel numpy_T one_hot ones ones_like outer pad
pad_sequence pairwise_distance pdist permute permute_copy pinverse pixel_shuffle pixel_unshuffle
poisson_nll_loss polar positive prod qr quantile rand rand_like randint randint_like randn
randn_like randperm range ravel real reflection_pad1d reflection_pad2d reflection_pad3d repeat
repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape reshape_as
resolve_conj resolve_neg rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90
row_stack rrelu_with_noise rrelu_with_noise_functional scalar_tensor
scaled_dot_product_attention searchsorted select select_copy select_scatter signbit size slice
slice_copy slice_scatter slogdet smooth_l1_loss soft_margin_loss softmax softplus softshrink
sort special_digamma special_entr special_erf special_erfc special_erfcx special_erfinv
special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln
special_i0 special_i0e special_i1 special_i1e special_log1p special_log_ndtr special_log_softmax
special_logit special_logsumexp special_ndtr special_ndtri special_polygamma special_psi
special_round special_sinc special_softmax special_xlog1py special_xlogy special_zeta split
split_copy split_with_sizes split_with_sizes_copy squeeze_copy stack std std_mean stft
storage_offset stride sum sum_to_size svd sym_constrain_range sym_constrain_range_for_size
sym_numel sym_size sym_storage_offset sym_stride t_copy take take_along_dim tensor_split
tensordot tile to to_padded_tensor topk trace transpose_copy trapezoid trapz triangular_solve
tril_indices triplet_margin_loss triu_indices type_as unbind unbind_copy unflatten unfold
unfold_copy unique_consecutive unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes
unsqueeze_copy upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
upsample_nearest2d upsample_nearest3d upsample_trilinear3d vander var var_mean vdot view view_as
view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit vstack
where zeros zeros_like __and__ __iand__ __ior__ __ixor__ __lshift__ __or__ __rshift__ __xor__
_adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar _assert_tensor_metadata
_cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cdist_forward _conj _convolution
_fft_c2c _fft_c2r _fft_r2c _functional_assert_async _functional_assert_scalar
_functional_sym_constrain_range _functional_sym_constrain_range_for_size _log_softmax
_native_batch_norm_legit _native_batch_norm_legit_functional
_native_batch_norm_legit_no_training _native_multi_head_attention _neg_view
_nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _prelu_kernel _reshape_alias
_scaled_dot_product_attention_math _scaled_dot_product_flash_attention_for_cpu _shape_as_tensor
_softmax _stack _to_copy _transformer_encoder_layer_fwd _trilinear _unique2 _unsafe_view
_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface
"""
_elementwise = _ELEMENTWISE.split()

NAMES = frozenset(_elementwise) | {f"{name}_" for name in _elementwise} | set(_OTHER.split())
