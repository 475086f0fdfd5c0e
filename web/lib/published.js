// Bits per dimension on the test images as published: the table of MuLAN (arXiv 2312.13236), bounds and exact likelihoods as
// they stand there, least first. ImageNet-32 is the older, not the anti-aliased one; numbers of the two do not compare.
export const PUBLISHED = {
        cifar10: {title: 'CIFAR-10', rows: [['MuLAN', 2.55], ['VDM', 2.65], ['Reflected Diffusion', 2.68], ['ScoreFlow', 2.83], ['Image Transformer', 2.9], ['Flow Matching', 2.99], ['PixelCNN', 3.03], ['DDPM', 3.69]]},
        imagenet32: {title: 'ImageNet-32', rows: [['MuLAN', 3.67], ['VDM', 3.72], ['Reflected Diffusion', 3.74], ['ScoreFlow', 3.76], ['Image Transformer', 3.77], ['PixelCNN', 3.83]]},
};
